"""Two studies of one task, compared unit by unit in what both have: the second against the first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ..study.problems import Refusal
from .answer import chosen
from .comparisons import Comparison, compare, paired, runs_of, tested
from .labels import settings_of
from .question import UNTRAINED, Question


@dataclass(frozen=True)
class Studied:
    """A study, its results and what it asks of them."""

    name: str
    summary: pd.DataFrame
    question: Question

    @property
    def rows(self) -> pd.DataFrame:
        return self.question.rows(self.summary)


def compare_studies(first: Studied, second: Studied) -> list[Comparison]:
    """The gain of the second over the first: for each setting that both have, equal in all that either varies, or,
    without such a setting, for the settings that their answers speak of; and for their base models. Only units that
    both have count. Raise `Refusal` if the two measure different things or have no unit in common.
    """
    if first.question.measure != second.question.measure:
        raise Refusal(
            f"{first.name}, {second.name}: studies of one task can be compared, these measure different things"
        )
    found = [*_shared(first, second)] or [*_answers(first, second)]
    found = [one for one in [*found, *_bases(first, second)] if one.n]
    if not found:
        raise Refusal(
            f"{first.name}, {second.name}: no {first.question.words[0]} has results in both; compare studies of the same "
            f"{first.question.words[1]}"
        )
    return tested(found)


def _shared(first: Studied, second: Studied) -> Iterator[Comparison]:
    """Each setting of the second that the first has too."""
    settings = tuple(dict.fromkeys((*first.question.settings, *second.question.settings)))
    asked = replace(first.question, settings=settings)
    before, after = (_trained(study, asked) for study in (first, second))
    for setting, rows in after:
        for other, rows_before in before:
            if setting == other:
                yield _paired(setting, first, rows_before, rows, asked)


def _trained(study: Studied, asked: Question) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """The settings that a study trained, in the columns that either study varies; a column it lacks is not used."""
    return [one for one in settings_of(study.rows, asked) if one[0].get("mode") != UNTRAINED]


def _answers(first: Studied, second: Studied) -> Iterator[Comparison]:
    """The settings that the answers of the two studies speak of."""
    before, after = (_main_of(study) for study in (first, second))
    if before and after:
        one = _paired(after[0].setting, first, before[1], after[1], second.question)
        yield replace(one, against=f"{first.name}: {before[0].label}")


def _main_of(study: Studied) -> tuple[Comparison, pd.DataFrame] | None:
    """The comparison that a study's answer speaks of, and the rows of its setting."""
    main = chosen(compare(study.summary, study.question), study.question)
    groups = settings_of(study.rows, study.question)
    return main and (main, next(group for setting, group in groups if setting == main.setting))


def _bases(first: Studied, second: Studied) -> Iterator[Comparison]:
    """The base models of the two studies; the value of a unit is the mean over all its rows."""
    column = first.question.measure.before
    if column is not None:
        sides = [runs_of(study.rows, column, study.question) for study in (second, first)]
        one = paired("rival", {}, first.name, sides[0], sides[1], first.question)
        yield replace(one, label=first.question.base)


def _paired(
    setting: dict[str, Any], first: Studied, before: pd.DataFrame, after: pd.DataFrame, question: Question
) -> Comparison:
    sides = [runs_of(rows, question.measure.column, question) for rows in (after, before)]
    return paired("study", setting, first.name, sides[0], sides[1], question)
