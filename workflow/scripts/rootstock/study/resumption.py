"""How long a training lasts, and how one continues from a checkpoint, with the same spec or a changed one."""

from dataclasses import dataclass
from typing import Literal

from .identity import digest
from .spec import TrainingSpec


@dataclass(frozen=True)
class Place:
    """Where a training stands: after `batch` batches of the engine's `epoch`."""

    path: str
    hash: str
    step: int
    epoch: int
    batch: int
    is_finished: bool  # whether it ended there by itself


@dataclass(frozen=True)
class Budget:
    """How long a training lasts. Trainings with the same `common` differ only in `amount`."""

    common: str
    amount: int
    field: str  # of the spec
    is_exact: bool  # whether a longer one may continue where a shorter one ended, with the same result
    counts: Literal["epochs", "steps"] = "epochs"  # what `amount` counts, in the engine's terms

    def done(self, place: Place) -> int:
        """How many whole epochs or steps a training that stands at `place` has done."""
        return place.epoch - 1 if self.counts == "epochs" else place.step


@dataclass(frozen=True)
class Resumption:
    """The spec to continue with, its hash, and what that means for the result, one line each."""

    spec: TrainingSpec
    hash: str
    says: list[str]


def unchanged(spec: TrainingSpec, place: Place) -> Resumption:
    """Continue the same training."""
    told = f"{place.hash} resumes at step {place.step}: its spec is unchanged, its result that of an undisturbed run"
    return Resumption(spec, digest(spec), [told])


def straight(before: TrainingSpec, after: TrainingSpec, field: str, counts: str) -> list[str]:
    """Lines that tell the user about a longer training that continues exactly."""
    amount = getattr(after, field)
    return [
        f"{field}: {getattr(before, field)} becomes {amount}",
        f"the rate is constant, so {digest(after)} is what a straight run of {amount} {counts} gives",
    ]


def stopped_by_none(spec: TrainingSpec, other: TrainingSpec) -> bool:
    """Whether early stopping with the patience of `spec` would have let `other` run to its end: if both have the same
    patience, or if `other` has none because it is too short for that of `spec`."""
    mine, theirs = spec.course(), other.course()
    same = mine.patience == theirs.patience
    return same or (theirs.patience is None and mine.patience is not None and mine.patience >= theirs.epochs)
