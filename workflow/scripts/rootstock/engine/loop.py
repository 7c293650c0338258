"""The training loop: epochs of steps, an evaluation after each epoch, the best weights kept, checkpoints in between."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from ..study.fields import never_null
from ..study.problems import Interrupted, Refusal
from ..study.spec import Optimisation, TrainingSpec
from .checkpoint import Checkpoints, StopRequest
from .compiling import compiled, decided
from .curves import Curves
from .distributed import World
from .epoch_line import Beat
from .optimizers import make_optimizer, trainable
from .progress import Context, Fitted, Progress
from .pulse import Pulse, gradient_norm
from .recompute import recompute
from .schedule import make_schedule
from .seeding import seed_step
from .sharding import is_model_spread, load_weights, shard, whole
from .stopping import EarlyStopping
from .whole_batch import require_whole_batches

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainee(Protocol):
    """What a task hands to the loop. Three attributes are optional:

    - `repaid_after`, if compiling the model saves time on a CPU: the measured steps after which it has saved what it
      costs.
    - `unit`, if the pace is not counted in samples: how many of which unit one sample contains.
    - `blocks`, if the network is a sequence of blocks. `evaluate` then calls it equally often on each rank, see
      `World.pieces`.
    """

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        ...

    @property
    def rebuilds(self) -> dict[str, Any]:
        """Plain values, kept in the model's files, from which the model is rebuilt together with its weights."""
        ...

    def batches(self, epoch: int) -> list[Tensor]:
        """Sample numbers of each global batch of an epoch; a pure function of seed and epoch."""
        ...

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        """Summed loss of `model` over these samples; random choices are keyed by sample and epoch."""
        ...

    def evaluate(self) -> dict[str, Any]:
        """Metrics over all ranks that choose the best epoch: `loss` and what early stopping watches are among them."""
        ...

    def train_mode(self) -> None:
        """Put the model into training mode, except parts that must stay as they are."""
        ...


@dataclass
class Outcome:
    """A finished training, ready for the store."""

    model: dict[str, Any]  # the content of `model.pt` besides spec and hash: `model`, and what rebuilds it
    metrics: dict[str, Any]
    fitted: Fitted


def untrained(content: dict[str, Any], metrics: dict[str, Any]) -> Outcome:
    """The outcome if nothing was trained: a model file's content without spec, hash and format, and new metrics."""
    own = {name: value for name, value in content.items() if name not in ("spec", "hash", "format")}
    return Outcome(own, metrics, Fitted(content["model"], {}, [], 0, 0, 0.0))


def require_settings(spec: TrainingSpec) -> None:
    """Raise `Refusal` if a spec, such as one written by hand, lacks a setting that every training needs."""
    missing = [name for name in never_null(Optimisation) if getattr(spec, name) is None]
    if missing:
        raise Refusal(f"--spec: it trains, and has no {', '.join(missing)}; copy a spec that a plan made")


def fit(trainee: Trainee, spec: TrainingSpec, context: Context) -> Fitted:
    """Train as `spec` says until the end. Return the best epoch's weights, which are then also loaded into the model.

    A resumed training sees the same batches in the same order, also with another number of processes.
    Raise `Interrupted` after one of `STOP_SIGNALS`, with a checkpoint saved.
    """
    require_settings(spec)
    model, world, checkpoints, course = trainee.model, context.world, context.checkpoints, spec.course()
    steps = course.steps or course.epochs * len(trainee.batches(1))
    context.run = decided(context.run, steps, getattr(trainee, "repaid_after", None), context.device)
    _make_ready(trainee, spec, context)
    optimizer = make_optimizer(model, spec, course, compiled=context.run.compile is True)
    schedule = make_schedule(course.schedule, optimizer, spec.lr, steps, course.warmup_steps, course.decay_pct)
    scaler, autocast = _in_precision(spec.precision, context.device.type)
    stopping = EarlyStopping(course.metric, course.patience)
    progress = Progress(model, trainee.rebuilds, optimizer, schedule, scaler, stopping, course.word)
    pulse = Pulse(optimizer, context, steps, getattr(trainee, "unit", (1, "samples")))
    progress.restore(checkpoints.load_latest() if checkpoints else None, context)
    progress.require_not_beyond(course.epochs)
    wrapped = model if context.is_sharded else world.wrap(compiled(model) if context.run.compile else model)
    curves = Curves(context.curves if world.is_first else None, progress.step, context.tracker)
    started, first_step = time.monotonic(), progress.step
    listening = StopRequest().listening() if checkpoints else nullcontext(StopRequest())  # else a signal just ends it
    with curves, listening as stop:
        while not progress.is_over(course.epochs):
            trainee.train_mode()
            batches = trainee.batches(progress.epoch)[progress.batch :]
            pulse.begin()
            for samples in tqdm(batches, f"{course.word} {progress.epoch}", leave=False, disable=not context.shows_bar):
                seed_step(spec.seed, progress.step + 1, world.rank)
                optimizer.zero_grad(set_to_none=True)
                loss_sum = _backward(trainee, wrapped, samples, progress.epoch, context, autocast, scaler)
                norm = _update(
                    model, optimizer, scaler, schedule, spec.gradient_clip, pulse.looks(samples is batches[-1])
                )
                progress.count_step(loss_sum, len(samples))
                if beat := pulse.count(progress.step, loss_sum, samples, norm):
                    _tell(beat, beat.text, {"train_loss_now": beat.loss}, curves, context)
                _save_if_due(progress, checkpoints, stop, world)
            measured = trainee.evaluate()
            progress.finish_epoch(measured, world.agree(measured[course.watched]), world)
            line = progress.line(course.epochs, time.monotonic() - started, beat := pulse.of_stretch(progress.step))
            _tell(beat, line.text, progress.history[-1], curves, context)

    if not stopping.best_state:
        raise Refusal(f"training diverged: {course.metric} was never a number; lower lr")
    last = progress.state() if course.keeps_end and spec.kind == "base" else {}
    load_weights(model, stopping.best_state)
    return progress.fitted(progress.step - first_step, time.monotonic() - started, last)


def _make_ready(trainee: Trainee, spec: TrainingSpec, context: Context) -> None:
    """Put the model into training mode and checkpoint and shard it as `run` says. Raise `Refusal` if that is
    impossible."""
    trainee.train_mode()
    require_whole_batches(trainee.model, spec.batch_size, context)
    blocks = getattr(trainee, "blocks", None)
    if context.run.activation_checkpointing:
        recompute(blocks)
    if context.is_sharded:
        held, of_all = shard(trainee.model, blocks, spec.precision, context.run)
        context.say(f"spread over {context.world.size} processes: this one holds {held} of {of_all} parameters")


def _in_precision(name: str, device: str) -> tuple[torch.amp.GradScaler, Callable]:
    """The scaler of the loss, and the context of a forward pass."""
    scaler = torch.amp.GradScaler(device, enabled=name == "fp16")
    return scaler, partial(torch.autocast, device, PRECISIONS[name], enabled=name != "float32")


def _save_if_due(progress: Progress, checkpoints: Checkpoints | None, stop: StopRequest, world: World) -> None:
    """Save a checkpoint if one is due or any process was asked to stop; in the latter case raise `Interrupted`
    afterwards."""
    if checkpoints and world.any(stop.asked or (world.is_first and checkpoints.are_due(progress.step))):
        progress.save(checkpoints, world)
        if world.any(stop.asked):
            raise Interrupted(f"stopped at step {progress.step}; run again to resume from there")


def _tell(beat: Beat, line: str, numbers: dict[str, float], curves: Curves, context: Context) -> None:
    """Add a beat to the training's curves and its line to the log."""
    curves.add(beat.step, numbers | beat.curves())
    if context.world.is_first:
        context.say(line)


def _update(
    model: nn.Module, optimizer: Optimizer, scaler: Any, schedule: LRScheduler | None, clip: float | None, looks: bool
) -> Tensor | None:
    """Step the optimizer with the present gradients, then the schedule. Return the gradients' norm before clipping if
    they are clipped or `looks` asks for it, else None; without clipping a sharded model also has None."""
    norm = None
    if clip is not None:
        scaler.unscale_(optimizer)
        norm = whole(nn.utils.clip_grad_norm_(trainable(model), clip))
    elif looks and not is_model_spread(model):  # its norm needs all processes, which look at different times
        norm = gradient_norm(model, scaler.get_scale())
    scaler.step(optimizer)
    scaler.update()
    if schedule is not None:
        schedule.step()
    return norm


def _backward(
    trainee: Trainee, model: nn.Module, samples: Tensor, epoch: int, context: Context, autocast: Callable, scaler: Any
) -> Tensor:
    """Add gradients of the global batch's mean loss, split over ranks and micro-batches. Return this rank's loss sum,
    float64."""
    world, total = context.world, len(samples)
    loss_sum = torch.zeros((), dtype=torch.float64, device=context.device)
    pieces = world.pieces(samples, context.run.micro_batch_size)
    for number, piece in enumerate(pieces):
        waits = number < len(pieces) - 1 and isinstance(model, DistributedDataParallel)
        with cast(DistributedDataParallel, model).no_sync() if waits else nullcontext():
            with autocast():
                loss = trainee.loss(model, piece if len(piece) else samples[:1], epoch)
            if not len(piece):
                loss = 0.0 * loss  # an empty piece takes part in the exchange of gradients but adds nothing
            scaler.scale(loss * (world.size / total)).backward()  # DDP averages over ranks: × size makes a global mean
        loss_sum += loss.detach()  # stays on the device: reading it would wait for the GPU
    return loss_sum
