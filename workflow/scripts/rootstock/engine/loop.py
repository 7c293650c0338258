"""The training loop: epochs of steps, an evaluation after each epoch, the best weights kept, checkpoints on the way."""

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
    """What a task hands to the loop. Where compiling its model was measured to save time on a CPU, it has `repaid_after` too: the steps
    after which that has saved what it costs. Where its pace is not told in samples, it has `unit`: how many of what a sample is. A
    network made of blocks, one after the other, has `blocks`; then `evaluate` calls it equally often on each rank, see `World.pieces`."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def rebuilds(self) -> dict[str, Any]:
        """Plain values from which, with its weights, the model is built again: kept in its files."""
        ...

    def batches(self, epoch: int) -> list[Tensor]:
        """Sample numbers of each global batch of an epoch; a pure function of seed and epoch."""
        ...

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        """Summed loss of `model` over these samples; random choices are keyed by sample and epoch."""
        ...

    def evaluate(self) -> dict[str, Any]:
        """Metrics that choose the best epoch, over all ranks; has `loss` and what early stopping watches."""
        ...

    def train_mode(self) -> None:
        """Put the model into training mode, but for what must stay as it is."""
        ...


@dataclass
class Outcome:
    """A finished training, ready for the store."""

    model: dict[str, Any]  # what `model.pt` holds beside spec and hash: `model`, and what rebuilds it
    metrics: dict[str, Any]
    fitted: Fitted


def untrained(content: dict[str, Any], metrics: dict[str, Any]) -> Outcome:
    """The outcome where nothing was trained: a model file's own content, but for what names it, and new metrics."""
    own = {name: value for name, value in content.items() if name not in ("spec", "hash", "format")}
    return Outcome(own, metrics, Fitted(content["model"], {}, [], 0, 0, 0.0))


def require_settings(spec: TrainingSpec) -> None:
    """`Refusal` where a spec that was written by hand trains without what every training has."""
    missing = [name for name in never_null(Optimisation) if getattr(spec, name) is None]
    if missing:
        raise Refusal(f"--spec: it trains, and has no {', '.join(missing)}; copy a spec that a plan made")


def fit(trainee: Trainee, spec: TrainingSpec, context: Context) -> Fitted:
    """Train as `spec` says until it is over; hand back the best epoch's weights, which the model then has.

    Interrupted and resumed, with the same or another number of processes, it sees the same batches in the same order.
    Raises `Interrupted` after one of `STOP_SIGNALS`, with a checkpoint saved.
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
    """The model in training mode, kept and spread as `run` says; `Refusal` where it cannot be trained so."""
    trainee.train_mode()
    require_whole_batches(trainee.model, spec.batch_size, context)
    blocks = getattr(trainee, "blocks", None)
    if context.run.activation_checkpointing:
        recompute(blocks)
    if context.is_sharded:
        held, of_all = shard(trainee.model, blocks, spec.precision, context.run)
        context.say(f"spread over {context.world.size} processes: this one holds {held} of {of_all} parameters")


def _in_precision(name: str, device: str) -> tuple[torch.amp.GradScaler, Callable]:
    """What scales a loss, and what a forward pass runs in."""
    scaler = torch.amp.GradScaler(device, enabled=name == "fp16")
    return scaler, partial(torch.autocast, device, PRECISIONS[name], enabled=name != "float32")


def _save_if_due(progress: Progress, checkpoints: Checkpoints | None, stop: StopRequest, world: World) -> None:
    """A checkpoint where one is due. `Interrupted`, after one, where any process was asked to stop."""
    if checkpoints and world.any(stop.asked or (world.is_first and checkpoints.are_due(progress.step))):
        progress.save(checkpoints, world)
        if world.any(stop.asked):
            raise Interrupted(f"stopped at step {progress.step}; run again to resume from there")


def _tell(beat: Beat, line: str, numbers: dict[str, float], curves: Curves, context: Context) -> None:
    """What a training's log and its curves have of a moment."""
    curves.add(beat.step, numbers | beat.curves())
    if context.world.is_first:
        context.say(line)


def _update(
    model: nn.Module, optimizer: Optimizer, scaler: Any, schedule: LRScheduler | None, clip: float | None, looks: bool
) -> Tensor | None:
    """One step of the optimizer, along gradients that are there; then the next learning rate. The gradients' norm before they
    are clipped, where they are clipped or somebody `looks`."""
    norm = None
    if clip is not None:
        scaler.unscale_(optimizer)
        norm = whole(nn.utils.clip_grad_norm_(trainable(model), clip))
    elif looks and not is_model_spread(model):  # its norm takes all processes, which look at other times
        norm = gradient_norm(model, scaler.get_scale())
    scaler.step(optimizer)
    scaler.update()
    if schedule is not None:
        schedule.step()
    return norm


def _backward(
    trainee: Trainee, model: nn.Module, samples: Tensor, epoch: int, context: Context, autocast: Callable, scaler: Any
) -> Tensor:
    """Gradients of the mean loss over a global batch, split over ranks and micro-batches; this rank's summed loss, float64."""
    world, total = context.world, len(samples)
    loss_sum = torch.zeros((), dtype=torch.float64, device=context.device)
    pieces = world.pieces(samples, context.run.micro_batch_size)
    for number, piece in enumerate(pieces):
        waits = number < len(pieces) - 1 and isinstance(model, DistributedDataParallel)
        with cast(DistributedDataParallel, model).no_sync() if waits else nullcontext():
            with autocast():
                loss = trainee.loss(model, piece if len(piece) else samples[:1], epoch)
            if not len(piece):
                loss = 0.0 * loss  # an empty piece takes part in the exchange of gradients, and adds nothing
            scaler.scale(loss * (world.size / total)).backward()  # DDP averages over ranks: × size makes a global mean
        loss_sum += loss.detach()  # read once an epoch: a GPU would be waited for
    return loss_sum
