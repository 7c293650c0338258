"""The line that a training's log has for each epoch: written by the loop, read by whoever watches. Light: no torch."""

import re
from dataclasses import dataclass

READ = re.compile(r"^epoch (\d+)/(\d+)  train_loss (\S+)", re.M)


@dataclass(frozen=True)
class EpochLine:
    """How far a training is: the numbers of its last epoch, of `max_epochs` at most, and the seconds that it took so far."""

    max_epochs: int
    row: dict[str, float]
    best_epoch: int
    seconds: float

    @property
    def text(self) -> str:
        epoch = self.row["epoch"]
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self.row.items() if name != "epoch")
        left = self.seconds / epoch * (self.max_epochs - epoch)
        best = f"best epoch {self.best_epoch}"
        return f"epoch {epoch}/{self.max_epochs}  {shown}  {best}  {self.seconds:.1f} s, at most {left:.0f} s left"


def last_epoch(log: str) -> str:
    """The last such line of a log in few words; empty where it has none."""
    found = READ.findall(log)
    return "epoch {}/{}, train loss {}".format(*found[-1]) if found else ""
