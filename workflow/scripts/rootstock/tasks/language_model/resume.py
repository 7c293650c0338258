"""Take up a training from one of its checkpoints, as it was or with another budget or batch. Light: no torch."""

from dataclasses import dataclass

from ...study.identity import digest
from ...study.problems import Refusal
from .records import Record
from .settings import BaseSpec, FinetuneSpec, ResumedFrom


@dataclass(frozen=True)
class Resumption:
    """The spec to train on with, and what that means for the result."""

    spec: BaseSpec | FinetuneSpec
    hash: str
    says: list[str]


def resume(
    record: Record, epoch: int, batch: int, max_steps: int | None, batch_size: int | None, world_size: int
) -> Resumption:
    """The training that goes on from `record`, which stands at `batch` steps of the loop's stretch `epoch`.

    A budget that a straight training would have passed on its way, at this very state, needs no mark in the spec: it is
    that training. Any other change is a new spec that names where it was taken up.
    """
    kind = FinetuneSpec if "base" in record.spec else BaseSpec
    before = kind.model_validate(record.spec)
    changes = {"max_steps": max_steps, "batch_size": batch_size}
    changes = {name: v for name, v in changes.items() if v is not None and v != getattr(before, name)}
    spec = before.model_copy(update=changes)
    if spec.max_steps <= record.step and (changes or record.kind == "state"):
        raise Refusal(f"--max-steps: {spec.max_steps} is not beyond step {record.step}, where {record.path} stands")
    if spec.warmup_steps > spec.max_steps:
        raise Refusal(f"--max-steps: {spec.max_steps} is less than warmup_steps: {spec.warmup_steps}")
    exact = not changes or _is_on_the_way(before, changes, record, epoch, batch)
    if not exact:
        samples = _samples(before, record.step)
        mark = ResumedFrom(hash=record.hash, step=record.step, samples=samples, epoch=epoch, batch=batch)
        spec = spec.model_copy(update={"resumed_from": mark})
    return Resumption(spec, digest(spec), [*_says(before, spec, changes, exact, record), *_world(record, world_size)])


def _is_on_the_way(before: BaseSpec | FinetuneSpec, changes: dict, record: Record, epoch: int, batch: int) -> bool:
    """Whether a straight training of the new budget stands, at this step, exactly where the record does."""
    begun = before.resumed_from or ResumedFrom(hash="", step=0, samples=0, epoch=1, batch=0)
    whole = begun.step - begun.batch + (epoch - begun.epoch) * before.eval_every + batch == record.step
    return set(changes) == {"max_steps"} and before.schedule == "constant" and whole


def _samples(spec: BaseSpec | FinetuneSpec, step: int) -> int:
    begun = spec.resumed_from
    return (begun.samples if begun else 0) + (step - (begun.step if begun else 0)) * spec.batch_size


def _says(before, after, changes: dict, exact: bool, record: Record) -> list[str]:
    if not changes:
        return [
            f"{record.hash} goes on at step {record.step}: its spec is unchanged, its result that of an undisturbed run"
        ]
    lines = [f"{name}: {getattr(before, name)} becomes {getattr(after, name)}" for name in changes]
    if exact:
        return [
            *lines,
            f"the rate is constant, so {digest(after)} is what a straight run of {after.max_steps} steps gives",
        ]
    lines.append(f"{digest(after)} is a new training, resumed from {record.hash} at step {record.step}")
    lines.append("as before: weights, optimizer, history, and the order of the text, which goes on where it was")
    if "batch_size" in changes:
        lines.append("not as before: a step now takes another number of windows; no straight run has this curve")
    if before.schedule != "constant":
        lines.append(f"not as before: the {before.schedule} schedule is now one over {after.max_steps} steps")
    return lines


def _world(record: Record, world_size: int) -> list[str]:
    if record.world_size == world_size:
        return []
    return [
        f"processes: {record.world_size} become {world_size}; the batches stay the same, losses up to the order of float sums"
    ]
