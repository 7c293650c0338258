"""The training loop: epochs of steps, an evaluation after each epoch, the best weights kept, checkpoints on the way."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from ..study.problems import Interrupted, Refusal
from .checkpoint import Checkpoints, StopRequest, to_cpu
from .compiling import compiled
from .curves import Curves
from .distributed import World
from .optimizers import trainable
from .seeding import seed_step
from .stopping import EarlyStopping

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainee(Protocol):
    """What a task hands to the loop."""

    model: nn.Module

    def batches(self, epoch: int) -> list[Tensor]:
        """Sample numbers of each global batch of an epoch; a pure function of seed and epoch."""

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        """Summed loss of `model` over these samples; random choices are keyed by sample and epoch."""

    def evaluate(self) -> dict[str, Any]:
        """Metrics that choose the best epoch, over all ranks; has `loss` and what early stopping watches."""

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
    trained_steps: int = 0  # steps of this process alone, after it resumed
    compile: bool = False
    last: dict[str, Any] = field(default_factory=dict)  # where a longer training may go on


@dataclass
class Outcome:
    """A finished training, ready for the store."""

    model: dict[str, Any]  # what `model.pt` holds beside spec and hash: `model`, and what rebuilds it
    metrics: dict[str, Any]
    fitted: Fitted
    base_spec: dict[str, Any] | None = None


@dataclass
class Context:
    """How a training runs: nothing here changes what is learned, beyond the last bits of a float."""

    device: torch.device
    world: World = field(default_factory=World)
    checkpoints: Checkpoints | None = None
    parent: dict[str, Any] | None = None  # the model file whose weights a base training starts from
    start: dict[str, Any] | None = None  # the last state of a shorter training with the same settings
    micro_batch_size: int | None = None
    compile: bool = False
    curves: Path | None = None  # a folder for TensorBoard
    say: Callable[[str], None] = print

    @property
    def shows_bar(self) -> bool:
        """Only the first process draws a bar, and only for a person who watches."""
        return self.world.is_first and sys.stderr.isatty()


def fit(
    trainee: Trainee,
    context: Context,
    *,
    optimizer: Optimizer,
    schedule: LRScheduler | None,
    max_epochs: int,
    gradient_clip: float | None,
    metric: str,
    patience: int | None,
    seed: int,
    precision: str = "float32",
    keeps_state: bool = False,
) -> Fitted:
    """Train until `max_epochs` or until `patience` epochs brought nothing better; return the best epoch's weights.

    An epoch is what lies between two evaluations; `schedule` is stepped after each step. `keeps_state` hands back where
    the training ended, for a longer one to go on from. Interrupted and taken up again, with the same or another number
    of processes, it sees the same batches in the same order. Raises `Interrupted` after one of `STOP_SIGNALS`, with a checkpoint saved.
    """
    model, world, checkpoints = trainee.model, context.world, context.checkpoints
    stopping = EarlyStopping(metric, patience)
    scaler = torch.amp.GradScaler(context.device.type, enabled=precision == "fp16")
    autocast = partial(torch.autocast, context.device.type, PRECISIONS[precision], enabled=precision != "float32")
    progress = _Progress(model, optimizer, schedule, scaler, stopping)
    progress.restore(checkpoints.load_latest() if checkpoints else None, context)
    wrapped = world.wrap(compiled(model) if context.compile else model)
    curves = Curves(context.curves if world.is_first else None, progress.step)
    started, first_step = time.monotonic(), progress.step

    with StopRequest().listening() if checkpoints else nullcontext() as stop:  # without them a signal just ends it
        while not progress.is_over(max_epochs):
            trainee.train_mode()
            batches = trainee.batches(progress.epoch)[progress.batch :]
            for samples in tqdm(batches, f"epoch {progress.epoch}", leave=False, disable=not context.shows_bar):
                seed_step(seed, progress.step + 1, world.rank)
                optimizer.zero_grad(set_to_none=True)
                loss_sum = _backward(trainee, wrapped, samples, progress.epoch, context, autocast, scaler)
                if gradient_clip is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(trainable(model), gradient_clip)
                scaler.step(optimizer)
                scaler.update()
                if schedule is not None:
                    schedule.step()
                progress.count_step(loss_sum, len(samples))
                if checkpoints and world.any(stop.asked or (world.is_first and checkpoints.are_due(progress.step))):
                    progress.save(checkpoints, world)
                    if world.any(stop.asked):
                        raise Interrupted(f"stopped at step {progress.step}; run again to go on from there")
            measured = trainee.evaluate()
            progress.finish_epoch(measured, world.agree(measured[metric]), world)
            curves.add(progress.step, progress.history[-1] | {"lr": optimizer.param_groups[0]["lr"]})
            if world.is_first:
                context.say(progress.line(max_epochs, time.monotonic() - started))

    if not stopping.best_state:
        raise Refusal(f"training diverged: {metric} was never a number; lower lr")
    seconds = progress.seconds + time.monotonic() - started
    last = progress.state() if keeps_state else {}
    return Fitted(
        stopping.best_state,
        progress.history,
        stopping.best_epoch,
        progress.step,
        seconds,
        progress.step - first_step,
        progress.compile,
        last,
    )


def _backward(
    trainee: Trainee, model: nn.Module, samples: Tensor, epoch: int, context: Context, autocast: Callable, scaler: Any
) -> float:
    """Gradients of the mean loss over a global batch, split over ranks and micro-batches; this rank's summed loss."""
    world, total, loss_sum = context.world, len(samples), 0.0
    mine = world.share(samples)
    pieces = list(mine.split(context.micro_batch_size or max(len(mine), 1))) if len(mine) else [samples[:1]]
    for number, piece in enumerate(pieces):
        synchronise = number == len(pieces) - 1 or world.size == 1
        with nullcontext() if synchronise else model.no_sync():
            with autocast():
                loss = trainee.loss(model, piece, epoch)
            if not len(mine):
                loss = 0.0 * loss  # an empty share takes part in the exchange of gradients, and adds nothing
            scaler.scale(loss * (world.size / total)).backward()  # DDP averages over ranks: × size makes a global mean
        loss_sum += loss.item()
    return loss_sum


class _Progress:
    """Where a training stands: all that a checkpoint holds."""

    def __init__(self, model: nn.Module, optimizer: Any, scheduler: Any, scaler: Any, stopping: EarlyStopping):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.scaler, self.stopping = scaler, stopping
        self.epoch, self.batch, self.step, self.seconds = 1, 0, 0, 0.0
        self.loss_sum, self.count = 0.0, 0
        self.history: list[dict[str, float]] = []
        self.started = time.monotonic()
        self.compile = False

    def is_over(self, max_epochs: int) -> bool:
        done = self.epoch - 1
        return done >= max_epochs or (done > 0 and self.stopping.is_over(done))

    def count_step(self, loss_sum: float, n: int) -> None:
        self.step, self.batch = self.step + 1, self.batch + 1
        self.loss_sum, self.count = self.loss_sum + loss_sum, self.count + n

    def finish_epoch(self, measured: dict[str, Any], value: float, world: World) -> None:
        numbers = {f"val_{name}": v for name, v in measured.items() if isinstance(v, float)}
        loss_sum = world.sum(torch.tensor([self.loss_sum], dtype=torch.float64)).item()
        self.history.append({"epoch": self.epoch, "train_loss": loss_sum / self.count, **numbers})
        if self.stopping.update(self.epoch, value):
            self.stopping.best_state = to_cpu(self.model.state_dict())
        self.epoch, self.batch, self.loss_sum, self.count = self.epoch + 1, 0, 0.0, 0

    def line(self, max_epochs: int, seconds: float) -> str:
        row = self.history[-1]
        shown = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name != "epoch")
        left = seconds / row["epoch"] * (max_epochs - row["epoch"])
        best = f"best epoch {self.stopping.best_epoch}"
        return f"epoch {row['epoch']}/{max_epochs}  {shown}  {best}  {seconds:.1f} s, at most {left:.0f} s left"

    def state(self) -> dict[str, Any]:
        """All of it as plain values and CPU tensors. No random state: every step is seeded anew."""
        return to_cpu(
            {
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "seconds": self.seconds + time.monotonic() - self.started,
                "loss_sum": self.loss_sum,
                "count": self.count,
                "history": self.history,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "scaler": self.scaler.state_dict(),
                "best": [self.stopping.best_value, self.stopping.best_epoch],
                "best_state": self.stopping.best_state,
            }
        )

    def save(self, checkpoints: Checkpoints, world: World) -> None:
        """Rank 0 writes; the running loss of the epoch is the sum over ranks."""
        whole = world.sum(torch.tensor([self.loss_sum], dtype=torch.float64)).item()
        self.loss_sum = whole if world.is_first else 0.0
        if world.is_first:
            how = {"world_size": world.size, "threads": torch.get_num_threads(), "compile": self.compile}
            checkpoints.save(self.step, self.state() | how)

    def restore(self, state: dict[str, Any] | None, context: Context) -> None:
        """Go on from a checkpoint, else from where another training stood, else from the start."""
        self.compile = context.compile
        if state is None and context.start is None:
            return
        source = "a shorter training" if state is None else "a checkpoint"
        if state is not None:
            self._keep_how(state, context)
        state = state or context.start
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"]) if state["scaler"] else None
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.loss_sum = state["loss_sum"] if context.world.is_first else 0.0
        self.count, self.history, self.seconds = state["count"], state["history"], state["seconds"]
        self.stopping.best_value, self.stopping.best_epoch = state["best"]
        self.stopping.best_state = state["best_state"]
        context.say(f"resumed from {source}: step {self.step}, epoch {self.epoch}")

    def _keep_how(self, state: dict[str, Any], context: Context) -> None:
        """Threads and compilation change the last bits: a training keeps those that it began with."""
        if state["threads"] != torch.get_num_threads():
            context.say(f"threads: {state['threads']}, as this training began, not {torch.get_num_threads()}")
            torch.set_num_threads(state["threads"])
        if state["compile"] != context.compile:
            context.say(f"compile: {state['compile']}, as this training began, not {context.compile}")
            context.compile = self.compile = state["compile"]
