"""How a training goes, also between evaluations: step, loss, learning rate, gradient norm, pace, memory. Changes no
bit.

Each process looks at its own clock, so nothing here may wait for another process.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .epoch_line import Beat
from .optimizers import trainable
from .progress import Context

STATM = Path("/proc/self/statm")  # Linux: sizes of this process in pages


@dataclass
class Window:
    """Counts since `began`. The loss stays on its device until it is read."""

    began: float
    steps: int = 0
    samples: int = 0  # of the global batches
    mine: int = 0  # of this process
    loss_sum: float | Tensor = 0.0

    def count(self, loss_sum: Tensor, samples: int, mine: int) -> None:
        self.steps, self.samples, self.mine = self.steps + 1, self.samples + samples, self.mine + mine
        self.loss_sum = self.loss_sum + loss_sum


class Pulse:
    """Counts steps and reports every `run.log_seconds`. `unit` is the number of units in a sample, and the unit's
    name."""

    def __init__(self, optimizer: Optimizer, context: Context, steps: int, unit: tuple[int, str]):
        self.optimizer, self.context, self.steps, self.unit = optimizer, context, steps, unit
        self.norm: Tensor | None = None
        self.is_due = False
        self.begin()

    def begin(self) -> None:
        """Begin a stretch. The evaluation before it is not counted."""
        self.stretch, self.window = Window(time.monotonic()), Window(time.monotonic())
        self.lr = self._rate()

    def looks(self, is_last: bool) -> bool:
        """Whether the next step is one to look at: the last of a stretch, or one whose report is due."""
        every = self.context.run.log_seconds
        self.is_due = every is not None and not is_last and time.monotonic() - self.window.began >= every
        self.lr = self._rate()
        return self.is_due or is_last

    def count(self, step: int, loss_sum: Tensor, samples: Tensor, norm: Tensor | None) -> Beat | None:
        """Count a step over a global batch. Return the report that is due now, if any."""
        self.norm = norm if norm is not None else self.norm
        mine = len(self.context.world.share(samples))
        for window in (self.stretch, self.window):
            window.count(loss_sum, len(samples), mine)
        if not self.is_due:
            return None
        beat, self.window = self._beat(step, self.window), Window(time.monotonic())
        return beat

    def of_stretch(self, step: int) -> Beat:
        """The report on all steps since the stretch began."""
        return self._beat(step, self.stretch)

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _beat(self, step: int, window: Window) -> Beat:
        worth, name = self.unit
        return Beat(
            step=step,
            steps=self.steps,
            loss=float(window.loss_sum) / max(window.mine, 1),
            lr=self.lr,
            gradient_norm=None if self.norm is None else float(self.norm),
            pace=window.samples * worth / max(time.monotonic() - window.began, 1e-9),
            unit=name,
            memory_mb=memory_mb(self.context.device),
        )


def gradient_norm(model: nn.Module, scale: float = 1.0) -> Tensor:
    """The norm of all gradients together, divided by the `scale` that they were multiplied by."""
    return nn.utils.get_total_norm([p.grad for p in trainable(model) if p.grad is not None]) / scale


def memory_mb(device: torch.device) -> float:
    """The memory of a training: on a GPU torch's peak so far, else the resident memory of this process now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20
    except (OSError, ValueError, IndexError):  # not Linux: the peak so far, in KB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
