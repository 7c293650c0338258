"""What a task shows of a study, as plain values from which the page and its files are made. Knows no task."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure as Drawing

if TYPE_CHECKING:
    from ..study.plan import Plan

NAME = re.compile(r"[a-z][a-z0-9_]*")  # becomes the name of a file, so a task chooses it and never a user


@dataclass(frozen=True)
class Figure:
    """A drawing and its numbers, at `figures/<name>.svg` and `figures/<name>.csv`. A name is unique on a page."""

    name: str
    title: str
    caption: str  # a sentence or two: what is drawn, and what a dot, line or band is
    alt: str  # what the drawing shows, for readers who cannot see it
    drawing: Drawing
    data: pd.DataFrame  # every number that is drawn

    def __post_init__(self) -> None:
        _require_name(self.name)


@dataclass(frozen=True)
class Table:
    """Rows under column names, written as `tables/<name>.csv`. `digits` rounds a column's floats on the page only."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    digits: Mapping[str, int] = field(default_factory=dict)
    is_long: bool = False  # can be sorted, filtered and paged
    only_in_file: tuple[str, ...] = ()  # columns that the page leaves out

    @property
    def shown(self) -> pd.DataFrame:
        return self.frame.drop(columns=list(self.only_in_file))

    def __post_init__(self) -> None:
        _require_name(self.name)


Part = Figure | Table | str  # a text is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it. `words` are keys of `results.words`, whose definitions can be opened below
    the heading. A section without parts is left out."""

    title: str
    parts: Sequence[Part]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Material:
    """What a task's `sections` may look at."""

    plan: "Plan"
    summary: pd.DataFrame  # one row per experiment, see `results.summary`
    baselines: list[dict[str, Any]]  # rows of all classical models
    question: Any = None  # results.question.Question, or None
    comparisons: Sequence[Any] = ()  # results.comparisons.Comparison
    chosen: Any = None  # the one of them that the answer speaks of, or None


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: the name of a figure or table needs {NAME.pattern}")
