"""How a training runs, where it stands, and its outcome."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..machine.this import most_side_by_side
from ..study.problems import Refusal
from ..study.run import Run
from .checkpoint import Checkpoints, to_cpu
from .distributed import World
from .epoch_line import Beat, EpochLine, Stretch
from .sharding import is_model_spread, load_weights, spread_state
from .stopping import EarlyStopping
from .tracker import Tracker


@dataclass
class Context:
    """How a training runs: nothing here changes what it learns, except the last bits of a float."""

    device: torch.device
    world: World = field(default_factory=World)
    checkpoints: Checkpoints | None = None
    start: dict[str, Any] | None = None  # the last state of a shorter training with the same settings
    run: Run = field(default_factory=Run)
    curves: Path | None = None  # a folder for TensorBoard
    tracker: Tracker | None = None
    say: Callable[[str], None] = print
    gpu_share: float = 1.0  # of a GPU's memory that this process may fill, because others use it too

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds only a part of the weights."""
        return self.run.shard and self.world.size > 1

    @property
    def shows_bar(self) -> bool:
        """Only the first process draws a bar, and only for a person who watches."""
        return self.world.is_first and sys.stderr.isatty()


@dataclass
class Fitted:
    """The outcome of a training. `state` holds the best epoch's weights, on the CPU."""

    state: dict[str, Tensor]
    measured: dict[str, Any]  # the result of the trainee's `evaluate` for these weights; empty if unknown
    history: list[dict[str, float]]
    best_epoch: int
    steps: int
    seconds: float
    trained_steps: int = 0  # steps of this process alone, after it resumed
    compile: bool = False
    last: dict[str, Any] = field(default_factory=dict)  # the state from which a longer training may continue


class Progress:
    """Where a training stands: everything that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        rebuilds: dict[str, Any],
        optimizer: Any,
        scheduler: Any,
        scaler: Any,
        stopping: EarlyStopping,
        word: Stretch = "epoch",
    ):
        self.word: Stretch = word
        self.model, self.rebuilds = model, rebuilds
        self.optimizer, self.scheduler, self.scaler, self.stopping = optimizer, scheduler, scaler, stopping
        self.epoch, self.batch, self.step, self.seconds = 1, 0, 0, 0.0
        self.loss_sum: float | Tensor = 0.0  # of this epoch and rank; it stays on its device until it is read
        self.count = 0
        self.history: list[dict[str, float]] = []
        self.started = time.monotonic()
        self.compile = False

    def is_over(self, max_epochs: int) -> bool:
        done = self.epoch - 1
        return done >= max_epochs or (done > 0 and self.stopping.is_over(done))

    def count_step(self, loss_sum: Tensor, n: int) -> None:
        self.step, self.batch = self.step + 1, self.batch + 1
        self.loss_sum, self.count = self.loss_sum + loss_sum, self.count + n

    def finish_epoch(self, measured: dict[str, Any], value: float, world: World) -> None:
        numbers = {f"val_{name}": v for name, v in measured.items() if isinstance(v, float)}
        train_loss = self._whole_loss(world) / self.count
        self.history.append({"epoch": self.epoch, "train_loss": train_loss, **numbers})
        if self.stopping.update(self.epoch, value):
            self.stopping.best_state, self.stopping.best_measured = to_cpu(self.model.state_dict()), measured
        self.epoch, self.batch, self.loss_sum, self.count = self.epoch + 1, 0, 0.0, 0

    def line(self, max_epochs: int, seconds: float, beat: Beat) -> EpochLine:
        return EpochLine(max_epochs, self.history[-1], self.stopping.best_epoch, seconds, self.word, beat)

    def fitted(self, trained_steps: int, seconds: float, last: dict[str, Any]) -> Fitted:
        """The outcome of the finished training. `seconds` counts from the time when this process resumed."""
        stopping, seconds = self.stopping, self.seconds + seconds
        return Fitted(
            stopping.best_state,
            stopping.best_measured,
            self.history,
            stopping.best_epoch,
            self.step,
            seconds,
            trained_steps,
            self.compile,
            last,
        )

    def state(self) -> dict[str, Any]:
        """Everything as plain values and CPU tensors. There is no random state, because every step is seeded anew."""
        return to_cpu(
            {
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "seconds": self.seconds + time.monotonic() - self.started,
                "loss_sum": float(self.loss_sum),
                "count": self.count,
                "history": self.history,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "scaler": self.scaler.state_dict(),
                "best": [self.stopping.best_value, self.stopping.best_epoch],
                "best_state": self.stopping.best_state,
                "best_measured": self.stopping.best_measured,
            }
            | self.rebuilds
        )

    def save(self, checkpoints: Checkpoints, world: World) -> None:
        """Rank 0 writes; the running loss of the epoch is the sum over ranks."""
        whole = self._whole_loss(world)
        self.loss_sum = whole if world.is_first else 0.0
        asks = world.is_first or is_model_spread(self.model)  # sharded weights need every rank
        state = self.state() if asks else {}
        if world.is_first:
            how = {"world_size": world.size, "threads": torch.get_num_threads(), "compile": self.compile}
            checkpoints.save(self.step, state | how)

    def restore(self, state: dict[str, Any] | None, context: Context) -> None:
        """Resume from a checkpoint, or else from the state of another training, or else start from the beginning."""
        self.compile = context.run.compile is True
        source = "a checkpoint" if state is not None else _source(context)
        try:
            if state is not None:
                self._keep_how(state, context)
            if state := state or context.start:
                self._take(state, context)
                context.say(f"resumed from {source}: step {self.step}, {self.word} {self.epoch}")
        except (torch.cuda.OutOfMemoryError, MemoryError, Refusal):
            raise
        except Exception as error:  # a state from somebody else can fail in any way
            reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:200]
            fix = "delete it, or the checkpoints of this training"
            raise Refusal(f"{source} of this training holds no state to resume from ({reason}); {fix}") from None

    def require_not_beyond(self, epochs: int) -> None:
        """Raise `Refusal` if it has trained for longer than requested."""
        if self.epoch - 1 > epochs:
            raise Refusal(f"stands at epoch {self.epoch - 1} already, beyond the {epochs} that are asked for")

    def _take(self, state: dict[str, Any], context: Context) -> None:
        load_weights(self.model, state["model"])
        self.optimizer.load_state_dict(spread_state(self.optimizer, state["optimizer"]))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"]) if state["scaler"] else None
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.loss_sum = state["loss_sum"] if context.world.is_first else 0.0
        self.count, self.history, self.seconds = state["count"], state["history"], state["seconds"]
        self.stopping.best_value, self.stopping.best_epoch = state["best"]
        self.stopping.best_state = state["best_state"]
        if not all(isinstance(count, int) for count in (self.epoch, self.batch, self.step, self.count)):
            raise TypeError("a count is none")
        self.stopping.best_measured = state.get("best_measured", {})

    def _whole_loss(self, world: World) -> float:
        """The summed loss of the epoch so far, over all ranks."""
        return world.sum(torch.tensor([float(self.loss_sum)], dtype=torch.float64)).item()

    def _keep_how(self, state: dict[str, Any], context: Context) -> None:
        """Keep the threads and the compilation that the training began with, because they change the last bits."""
        threads, most = state["threads"], max(most_side_by_side(), torch.get_num_threads())
        if isinstance(threads, int) and not 0 < threads <= most:  # a stranger may have written it
            own = torch.get_num_threads()
            context.say(f"threads: {own}, not {threads:.3g} as the checkpoint has it: {most} are the most here")
        elif threads != torch.get_num_threads():
            context.say(f"threads: {state['threads']}, as this training began, not {torch.get_num_threads()}")
            torch.set_num_threads(state["threads"])
        if state["compile"] != context.run.compile:
            context.say(f"compile: {state['compile']}, as this training began, not {context.run.compile}")
            self.compile = state["compile"]
            context.run = context.run.model_copy(update={"compile": self.compile})


def _source(context: Context) -> str:
    """The source of a training that finds no checkpoint itself. The state chosen for it may still be its own
    checkpoint."""
    name, checkpoints = (context.start or {}).get("hash"), context.checkpoints
    own = checkpoints is not None and name == checkpoints.spec_hash
    return "a checkpoint" if own else f"training {name}"
