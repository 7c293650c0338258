"""A training that continues from one of its checkpoints with another budget or batch. Light: no torch."""

from ...study.identity import digest
from ...study.problems import Refusal
from ...study.resumption import Place, Resumption, straight, unchanged
from .specs import NOT_RESUMED, BaseSpec, FinetuneSpec, ResumedFrom

Spec = BaseSpec | FinetuneSpec


def resumed(before: Spec, place: Place, changes: dict[str, int]) -> Resumption:
    """Return the spec with which the training continues. Raise `Refusal` where nothing is left to train or the warm-up
    is longer than the training.

    If an uninterrupted training of the new budget passes through this very state, the spec is that training's and needs
    no mark. Any other change gives a new spec, which records where it was resumed.
    """
    spec = before.model_copy(update=changes)
    if spec.max_steps <= place.step and (changes or place.is_finished):
        raise Refusal(f"max_steps: {spec.max_steps} is not beyond step {place.step}, where {place.path} stands")
    if spec.warmup_steps > spec.max_steps:
        raise Refusal(f"max_steps: {spec.max_steps} is less than warmup_steps: {spec.warmup_steps}")
    if not changes:
        return unchanged(before, place)
    if _is_on_the_way(before, changes, place):
        return Resumption(spec, digest(spec), straight(before, spec, "max_steps", "steps"))
    mark = ResumedFrom(
        hash=place.hash, step=place.step, samples=_samples(before, place.step), epoch=place.epoch, batch=place.batch
    )
    spec = spec.model_copy(update={"resumed_from": mark})
    return Resumption(spec, digest(spec), _says(before, spec, changes, place))


def _is_on_the_way(before: Spec, changes: dict[str, int], place: Place) -> bool:
    """Whether an uninterrupted training of the new budget has exactly this state at this step."""
    begun = before.resumed_from or NOT_RESUMED
    whole = begun.step - begun.batch + (place.epoch - begun.epoch) * before.eval_every + place.batch == place.step
    ends = (before.max_steps, changes.get("max_steps", before.max_steps))
    is_evaluated = not any(
        steps % before.eval_every for steps in ends
    )  # at both ends, otherwise `budget` takes them for two trainings
    return set(changes) == {"max_steps"} and before.schedule == "constant" and whole and is_evaluated


def _samples(spec: BaseSpec | FinetuneSpec, step: int) -> int:
    begun = spec.resumed_from or NOT_RESUMED
    return begun.samples + (step - begun.step) * spec.batch_size


def _says(before: Spec, after: Spec, changes: dict[str, int], place: Place) -> list[str]:
    lines = [f"{name}: {getattr(before, name)} becomes {value}" for name, value in changes.items()]
    lines.append(f"{digest(after)} is a new training, resumed from {place.hash} at step {place.step}")
    lines.append("as before: weights, optimizer, history, and the order of the text, which continues where it was")
    if "batch_size" in changes:
        lines.append("not as before: a step now takes another number of windows; no straight run has this curve")
    if before.schedule != "constant":
        lines.append(f"not as before: the {before.schedule} schedule is now one over {after.max_steps} steps")
    return lines
