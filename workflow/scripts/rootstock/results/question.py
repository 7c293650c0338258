"""What a study asks, as its task's `report.py` states it: what is measured, on whom, and how settings differ."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

UNTRAINED = "base_only"  # the mode that only measures a base model


@dataclass(frozen=True)
class Measure:
    """What is measured. Shown is `column` of the summary, or of what `Question.derive` makes of it, times `scale`."""

    column: str  # after the fine-tune
    before: str | None  # the same of the base model; NaN in rows without one
    label: str  # "accuracy on the person's test set"
    unit: str  # "%", "nats a token"; empty for plain numbers
    scale: float = 1.0  # 100 for fractions
    higher_is_better: bool = True
    best: float | None = None  # the best possible value, as shown
    digits: int = 1
    change_unit: str = ""  # of a difference: "points"; empty: as `unit`

    @property
    def sign(self) -> int:
        """A difference times this is a gain: positive is better."""
        return 1 if self.higher_is_better else -1


@dataclass(frozen=True)
class Question:
    """What a study asks of its results."""

    measure: Measure
    unit: str  # the column that names who a result is about
    words: tuple[str, str]  # singular and plural: ("person", "people")
    settings: tuple[str, ...]  # columns that distinguish settings; the mode first
    seeds: tuple[str, ...] = ()  # columns that are averaged over, within a unit, before anything else
    amount: str | None = None  # the column with the share of the unit's own data, 0 to 1; the x axis
    amount_words: str = ""  # "of a person's windows"; a sentence begins "Fine-tuning on 10 % of a person's windows"
    scratch: tuple[str, ...] = ()  # modes that train from scratch
    treatment: str = "Fine-tuning"  # what is done to a base model
    base: str = "base model"  # what it is done to
    rivals: tuple[tuple[str, str], ...] = ()  # label and column (as `column`) of what else each row is compared with
    derive: "Callable[[DataFrame], DataFrame] | None" = None  # makes the rows to compare, with the columns named above

    def rows(self, summary: "DataFrame") -> "DataFrame":
        """The rows that are compared; those of the summary if the task derives none."""
        return self.derive(summary) if self.derive else summary
