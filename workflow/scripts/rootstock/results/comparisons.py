"""What a study compares, unit by unit: each setting with its base, training from scratch and the task's rivals.

Values are in the units that are shown, and a positive gain is better. A result that is not finite counts as missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from . import statistics
from .labels import label_of, settings_of
from .question import UNTRAINED, Question

Kind = Literal["base", "scratch", "rival", "study"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """One setting against one other thing, over the units that have both results. NaN marks an unknown number."""

    kind: Kind
    setting: dict[str, Any]  # the columns that distinguish it, without those it does not use
    label: str
    against: str
    units: pd.DataFrame  # index: units; columns: before, after (means over seeds), gain
    left_out: int  # units that have only one of the two results
    probability_of_improvement: float
    n_seeds: int
    seed_sd: float  # of the mean gain between seeds, over the units that have all seeds
    low: float = np.nan  # ends of the interval of the mean gain over units
    high: float = np.nan
    p: float = np.nan
    p_holm: float = np.nan  # p corrected for all comparisons that are tested
    n_tested: int = 0  # the number of comparisons that are tested

    @property
    def gains(self) -> pd.Series:
        return self.units["gain"]

    @property
    def before(self) -> float:
        return float(self.units["before"].mean())

    @property
    def after(self) -> float:
        return float(self.units["after"].mean())

    @property
    def mean(self) -> float:
        """Mean gain over units."""
        return float(self.gains.mean())

    @property
    def n(self) -> int:
        return len(self.units)

    @property
    def gained(self) -> int:
        return int((self.gains > 0).sum())

    @property
    def lost(self) -> int:
        return int((self.gains < 0).sum())

    @property
    def tied(self) -> int:
        return int((self.gains == 0).sum())

    @property
    def can_tell(self) -> bool:
        """Whether there are enough units for an interval and a test."""
        return self.n >= statistics.MIN_UNITS

    @property
    def smallest_p(self) -> float:
        """The smallest p that this number of units can give."""
        return statistics.smallest_p(self.n)

    @property
    def smallest_p_holm(self) -> float:
        """The smallest p after Holm that the units that differ can give, if it is the smallest of all tested p."""
        of_those = max(self.smallest_p, 2 / 2 ** (self.gained + self.lost))
        return min(1.0, max(self.n_tested, 1) * of_those)

    @property
    def is_beyond_chance(self) -> bool:
        return self.p_holm <= statistics.ALPHA  # False for NaN

    @property
    def helps(self) -> bool:
        """Whether both the test, after Holm, and the interval show a gain."""
        return self.is_beyond_chance and self.low > 0

    @property
    def harms(self) -> bool:
        return self.is_beyond_chance and self.high < 0


def compare(summary: pd.DataFrame, question: Question) -> list[Comparison]:
    """Each setting against its base, then against training from scratch on as much data, then against the rivals."""
    rows = question.rows(summary)
    if rows.empty:
        return []
    found = [*_with_columns(rows, question), *_with_scratch(rows, question)]
    order = {"base": 0, "scratch": 1, "rival": 2}
    return tested(sorted((one for one in found if one.n), key=lambda one: order[one.kind]))


def paired(
    kind: Kind, setting: dict[str, Any], against: str, after: pd.DataFrame, before: pd.DataFrame, question: Question
) -> Comparison:
    """The comparison of two tables from `runs_of`, not tested yet."""
    sign = question.measure.sign
    means = [side.groupby(question.unit, sort=False)["value"].mean() for side in (before, after)]
    units = pd.concat(means, axis=1, keys=["before", "after"], sort=False)
    both = units.dropna()
    gains = sign * (both["after"] - both["before"])
    n_seeds, seed_sd = _between_seeds(after, before, question)
    runs = [_runs_by_unit(side, both.index, question) for side in (after, before)]
    return Comparison(
        kind=kind,
        setting=setting,
        label=label_of(setting, question),
        against=against,
        units=both.assign(gain=gains.where(gains.abs() > statistics.TIE, 0.0)),
        left_out=len(units) - len(both),
        probability_of_improvement=statistics.probability_of_improvement(*runs),
        n_seeds=n_seeds,
        seed_sd=seed_sd,
    )


def tested(comparisons: list[Comparison]) -> list[Comparison]:
    """The same comparisons, with interval and p if they have enough units. Holm's correction covers all of these."""
    found = dict(enumerate(comparisons))
    for n in sorted({one.n for one in comparisons if one.can_tell}):
        places = [place for place, one in found.items() if one.n == n]
        gains = np.stack([found[place].gains.to_numpy() for place in places])
        low, high = statistics.intervals(gains)
        p = statistics.sign_flip_p(gains)
        for row, place in enumerate(places):
            ends = {"low": float(low[row]), "high": float(high[row])}
            found[place] = replace(found[place], p=float(p[row]), **ends)
    corrected = statistics.holm([one.p for one in found.values()])
    n_tested = int((~np.isnan(corrected)).sum())
    pairs = zip(found.values(), corrected, strict=True)
    return [replace(one, p_holm=float(p), n_tested=n_tested) for one, p in pairs]


def runs_of(rows: pd.DataFrame, column: str, question: Question) -> pd.DataFrame:
    """One row per run: the unit, its seeds, and `value` as shown. Rows without a finite number are left out, and all
    rows if there is no such column."""
    values = pd.to_numeric(rows.reindex(columns=[column])[column], errors="coerce") * question.measure.scale
    seeds = [name for name in question.seeds if name in rows]
    runs = rows[[question.unit, *seeds]].assign(value=values.astype(float))
    return runs[np.isfinite(runs["value"])]


def _with_columns(rows: pd.DataFrame, question: Question) -> Iterator[Comparison]:
    """Comparisons whose two values stand in one row."""
    others: list[tuple[Kind, str, str]] = [("rival", label, column) for label, column in question.rivals]
    if question.measure.before is not None:
        others.insert(0, ("base", question.base, question.measure.before))
    for setting, group in settings_of(rows, question):
        if setting.get("mode") == UNTRAINED or setting.get("mode") in question.scratch:
            continue
        after = runs_of(group, question.measure.column, question)
        for kind, label, column in others:
            before = runs_of(group, column, question)
            if len(before):
                yield paired(kind, setting, label, after, before, question)


def _with_scratch(rows: pd.DataFrame, question: Question) -> Iterator[Comparison]:
    """Fine-tunes against training from scratch on as much data, equal in every setting that varies from scratch."""
    grouped = settings_of(rows, question) if question.scratch else []
    tuned = [one for one in grouped if one[0].get("mode") not in (UNTRAINED, *question.scratch)]
    for mode in question.scratch:
        scratches = [one for one in grouped if one[0].get("mode") == mode]
        same = _varied([setting for setting, _ in scratches]) | ({question.amount} if question.amount else set())
        for (setting, after), (scratch, before) in product(tuned, scratches):
            if all(setting.get(name) == scratch.get(name) for name in same):
                sides = [runs_of(side, question.measure.column, question) for side in (after, before)]
                yield paired("scratch", setting, f"training from scratch ({mode})", sides[0], sides[1], question)


def _varied(settings: list[dict[str, Any]]) -> set[str]:
    """The columns in which settings differ."""
    columns = {name for setting in settings for name in setting}
    return {name for name in columns if len({setting.get(name) for setting in settings}) > 1}


def _between_seeds(after: pd.DataFrame, before: pd.DataFrame, question: Question) -> tuple[int, float]:
    """The number of seeds, and the sd between seeds of the mean gain over the units that have all seeds."""
    sides = (after, before)
    seeds = [name for name in question.seeds if all(name in side and side[name].notna().any() for side in sides)]
    if not seeds or len(after.drop_duplicates(seeds)) < 2:
        return min(len(after), 1), np.nan
    of = [side.groupby([question.unit, *seeds])["value"].mean() for side in sides]
    gains = (of[0] - of[1]).unstack(question.unit)
    gains = gains.dropna(how="all")  # seeds that only one side has
    whole = gains.dropna(axis="columns")
    sd = float(whole.mean(axis="columns").std()) if whole.size else np.nan
    return len(gains), sd


def _runs_by_unit(runs: pd.DataFrame, units: pd.Index, question: Question) -> list[np.ndarray]:
    """The runs of each unit, with the sign that makes larger better."""
    by_unit = dict(list((question.measure.sign * runs["value"]).groupby(runs[question.unit])))
    return [by_unit[unit].to_numpy() for unit in units]
