"""How long a training lasts, and one that continues from one of its checkpoints: as it was, or changed."""

from dataclasses import dataclass
from typing import Literal

from .identity import digest
from .spec import TrainingSpec


@dataclass(frozen=True)
class Place:
    """Where a training stands: at `batch` steps of the engine's `epoch`."""

    path: str
    hash: str
    step: int
    epoch: int
    batch: int
    is_finished: bool  # whether it ended there by itself


@dataclass(frozen=True)
class Budget:
    """How long a training lasts. Trainings with the same `common` differ in `amount` alone."""

    common: str
    amount: int
    field: str  # of the spec
    is_exact: bool  # whether a longer one may continue where a shorter one ended, with the same result
    counts: Literal["epochs", "steps"] = "epochs"  # of the engine: what `amount` is a number of

    def done(self, place: Place) -> int:
        """How much of it a training that stands there has behind it, in whole ones."""
        return place.epoch - 1 if self.counts == "epochs" else place.step


@dataclass(frozen=True)
class Resumption:
    """The spec to train on with, its hash, and what that means for the result, a line each."""

    spec: TrainingSpec
    hash: str
    says: list[str]


def unchanged(spec: TrainingSpec, place: Place) -> Resumption:
    """The very training that stands there."""
    told = f"{place.hash} resumes at step {place.step}: its spec is unchanged, its result that of an undisturbed run"
    return Resumption(spec, digest(spec), [told])


def straight(before: TrainingSpec, after: TrainingSpec, field: str, counts: str) -> list[str]:
    """How a longer training that continues exactly is described to its user."""
    amount = getattr(after, field)
    return [
        f"{field}: {getattr(before, field)} becomes {amount}",
        f"the rate is constant, so {digest(after)} is what a straight run of {amount} {counts} gives",
    ]


def stopped_by_none(spec: TrainingSpec, other: TrainingSpec) -> bool:
    """Whether early stopping, as `spec` has it, would have let `other` run to its end: as the same patience does, or one that
    `other` was too short for, which is then not in its spec."""
    mine, theirs = spec.course(), other.course()
    same = mine.patience == theirs.patience
    return same or (theirs.patience is None and mine.patience is not None and mine.patience >= theirs.epochs)
