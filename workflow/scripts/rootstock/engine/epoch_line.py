"""The lines of a training's log: one after each evaluation, others in between. The loop writes them, `status` reads
them. Light: no torch."""

import re
from dataclasses import dataclass
from typing import Literal

Stretch = Literal["epoch", "evaluation"]  # a task's word for the steps between two evaluations

READ = re.compile(r"^(epoch|evaluation) (\d+)/(\d+)  train_loss (\S+)", re.M)
BEAT = re.compile(r"^step (\d+/\d+)  loss (\S+)  lr \S+  (?:gradient norm \S+  )?(\S+ \S+/s)  memory", re.M)


@dataclass(frozen=True)
class Beat:
    """Where a training is: mean loss per sample, gradient norm before clipping, pace in `unit` per second."""

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
        """The text without step and loss."""
        norm = "" if self.gradient_norm is None else f"gradient norm {self.gradient_norm:.3g}  "
        return f"lr {self.lr:.3g}  {norm}{self.pace:,.0f} {self.unit}/s  memory {self.memory_mb:,.0f} MB"

    def curves(self) -> dict[str, float]:
        """Its numbers, by the names of their curves."""
        rows = {"lr": self.lr, f"pace/{self.unit}_per_second": self.pace, "memory_mb": self.memory_mb}
        return rows | ({} if self.gradient_norm is None else {"gradient_norm": self.gradient_norm})


@dataclass(frozen=True)
class EpochLine:
    """How far a training is: the numbers of its last epoch, out of at most `max_epochs`, and its seconds so far."""

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
    """The last epoch in a few words, then the last step if it is newer; empty if the log has neither."""
    told, end = [], 0
    for found in READ.finditer(log):
        told, end = ["{} {}/{}, train loss {}".format(*found.groups())], found.end()
    for found in BEAT.finditer(log, end):
        told = [*told[: end > 0], "step {}, loss {}, {}".format(*found.groups())]
    return "; ".join(told)
