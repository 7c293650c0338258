"""What a task shows of a study, as plain values: the page draws them, files are written of them. Knows no task."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure as Drawing

if TYPE_CHECKING:
    from ..study.plan import Plan

NAME = re.compile(r"[a-z][a-z0-9_]*")  # becomes the name of a file, so it is ours and no user's


@dataclass(frozen=True)
class Figure:
    """A drawing and its numbers. Written as `figures/<name>.svg` and `figures/<name>.csv`; one name a page."""

    name: str
    title: str
    caption: str  # a sentence or two: what is drawn, and what a dot, line or band is
    alt: str  # what one sees, for who does not see it
    drawing: Drawing
    data: pd.DataFrame  # every number that is drawn

    def __post_init__(self) -> None:
        _require_name(self.name)


@dataclass(frozen=True)
class Table:
    """Rows under column names; written as `tables/<name>.csv`. `digits` rounds the floats of a column on the page, not in the file."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    digits: Mapping[str, int] = field(default_factory=dict)
    is_long: bool = False  # sorts, filters and turns pages
    only_in_file: tuple[str, ...] = ()  # columns that are too long for the page

    @property
    def shown(self) -> pd.DataFrame:
        return self.frame.drop(columns=list(self.only_in_file))

    def __post_init__(self) -> None:
        _require_name(self.name)


Part = Figure | Table | str  # a text is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. `words` are keys of `results.words`, whose definitions stand behind it. A section
    without parts is left out."""

    title: str
    parts: Sequence[Part]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """What a task's `sections` may look at."""

    plan: "Plan"
    summary: pd.DataFrame  # a row an experiment, see `results.summary`
    baselines: list[dict[str, Any]]  # rows of all classical models
    question: Any = None  # results.question.Question, or None
    comparisons: Sequence[Any] = ()  # results.comparisons.Comparison
    chosen: Any = None  # the one of them that the answer speaks of, or None


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: the name of a figure or table needs {NAME.pattern}")
