"""The training loop: epochs of steps, an evaluation after each epoch, the best weights kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..study.problems import Refusal
from .schedule import make_schedule
from .seeding import seed_step
from .stopping import EarlyStopping


class Trainee(Protocol):
    """What a task hands to the loop."""

    model: nn.Module

    def batches(self, epoch: int) -> list[Tensor]:
        """Sample numbers of each global batch of an epoch; a pure function of seed and epoch."""

    def loss(self, samples: Tensor, epoch: int) -> tuple[Tensor, int]:
        """Summed loss over these samples and how many they are; random choices are keyed by sample and epoch."""

    def evaluate(self) -> dict[str, Any]:
        """Metrics that choose the best epoch; has `loss` and what early stopping watches."""

    def train_mode(self) -> None:
        """Put the model into training mode, but for what must stay as it is."""


@dataclass
class Fitted:
    """The outcome of a training. `state` holds the best epoch's weights, on the CPU."""

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    steps: int
    seconds: float


@dataclass
class Outcome:
    """A finished training, ready for the store."""

    model: dict[str, Any]  # what `model.pt` holds beside spec and hash: `model`, and what rebuilds it
    metrics: dict[str, Any]
    history: list[dict[str, float]]
    best_epoch: int
    epochs: int
    steps: int
    base_spec: dict[str, Any] | None = None


def fit(
    trainee: Trainee,
    *,
    lr: float,
    weight_decay: float,
    schedule: str,
    max_epochs: int,
    gradient_clip: float | None,
    metric: str,
    patience: int | None,
    seed: int,
    say: Callable[[str], None] = print,
) -> Fitted:
    """Train until `max_epochs` or until `patience` epochs brought nothing better; return the best epoch's weights."""
    model = trainee.model
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=weight_decay)
    scheduler = make_schedule(schedule, optimizer, lr, max_epochs * len(trainee.batches(1)))
    stopping = EarlyStopping(metric, patience)
    history: list[dict[str, float]] = []
    steps, started = 0, time.monotonic()

    for epoch in range(1, max_epochs + 1):
        trainee.train_mode()
        loss_sum, count = 0.0, 0
        for samples in trainee.batches(epoch):
            seed_step(seed, steps + 1)
            optimizer.zero_grad(set_to_none=True)
            batch_loss, n = trainee.loss(samples, epoch)
            (batch_loss / n).backward()
            if gradient_clip is not None:
                nn.utils.clip_grad_norm_(trainable, gradient_clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            loss_sum, count, steps = loss_sum + batch_loss.item(), count + n, steps + 1
        measured = trainee.evaluate()
        history.append({"epoch": epoch, "train_loss": loss_sum / count, **_numbers(measured)})
        if stopping.update(epoch, measured[metric]):
            stopping.best_state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        say(_line(history[-1], max_epochs, stopping.best_epoch, time.monotonic() - started))
        if stopping.is_over(epoch):
            say(f"stopped: no better {metric} for {patience} epochs")
            break

    if not stopping.best_state:
        raise Refusal(f"training diverged: {metric} was never a number; lower lr (now {lr:g})")
    return Fitted(stopping.best_state, history, stopping.best_epoch, steps, time.monotonic() - started)


def _numbers(measured: dict[str, Any]) -> dict[str, float]:
    return {f"val_{name}": value for name, value in measured.items() if isinstance(value, float)}


def _line(row: dict[str, float], max_epochs: int, best_epoch: int, seconds: float) -> str:
    measured = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name not in ("epoch",))
    left = seconds / row["epoch"] * (max_epochs - row["epoch"])
    return f"epoch {row['epoch']}/{max_epochs}  {measured}  best epoch {best_epoch}  {seconds:.1f} s, at most {left:.0f} s left"
