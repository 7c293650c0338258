"""The lines that a training's log has: one after each evaluation, others between. Written by the loop, read by whoever watches.
Light: no torch."""

import re
from dataclasses import dataclass
from typing import Literal

Stretch = Literal["epoch", "evaluation"]  # what lies between two evaluations, by the name that it has in a task

READ = re.compile(r"^(epoch|evaluation) (\d+)/(\d+)  train_loss (\S+)", re.M)
BEAT = re.compile(r"^step (\d+/\d+)  loss (\S+)  lr \S+  (?:gradient norm \S+  )?(\S+ \S+/s)  memory", re.M)


@dataclass(frozen=True)
class Beat:
    """Where a training is: the mean loss of a sample, norm of the gradient before it is clipped, pace in `unit` a second."""

    step: int
    steps: int  # at most
    loss: float
    lr: float
    gradient_norm: float | None
    pace: float
    unit: str
    memory_mb: float

    @property
    def text(self) -> str:
        return f"step {self.step}/{self.steps}  loss {self.loss:.4f}  {self.how}"

    @property
    def how(self) -> str:
        """The same without where it is and its loss."""
        norm = "" if self.gradient_norm is None else f"gradient norm {self.gradient_norm:.3g}  "
        return f"lr {self.lr:.3g}  {norm}{self.pace:,.0f} {self.unit}/s  memory {self.memory_mb:,.0f} MB"

    def curves(self) -> dict[str, float]:
        """Its numbers by the names that they have among curves."""
        rows = {"lr": self.lr, f"pace/{self.unit}_per_second": self.pace, "memory_mb": self.memory_mb}
        return rows | ({} if self.gradient_norm is None else {"gradient_norm": self.gradient_norm})


@dataclass(frozen=True)
class EpochLine:
    """How far a training is: the numbers of its last epoch, of `max_epochs` at most, and the seconds that it took so far."""

    max_epochs: int
    row: dict[str, float]
    best_epoch: int
    seconds: float
    word: Stretch
    beat: Beat

    @property
    def text(self) -> str:
        epoch = self.row["epoch"]
        shown = "  ".join(f"{name} {value:.4f}" for name, value in self.row.items() if name != "epoch")
        left = self.seconds / epoch * (self.max_epochs - epoch)
        best = f"best {self.word} {self.best_epoch}"
        time = f"{self.seconds:.1f} s, at most {left:.0f} s left"
        return f"{self.word} {epoch}/{self.max_epochs}  {shown}  {best}  {time}  step {self.beat.step}/{self.beat.steps}  {self.beat.how}"


def last_epoch(log: str) -> str:
    """Its last line of each kind in few words, of a step only where it is newer; empty where the log has none."""
    told, end = [], 0
    for found in READ.finditer(log):
        told, end = ["{} {}/{}, train loss {}".format(*found.groups())], found.end()
    for found in BEAT.finditer(log, end):
        told = [*told[: end > 0], "step {}, loss {}, {}".format(*found.groups())]
    return "; ".join(told)
