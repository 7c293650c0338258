"""The page's answer to a question: one figure, the comparisons, who gained and lost, and how much data it takes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import draw, statistics
from .answer import RULE, besides
from .comparisons import Comparison, runs_of
from .labels import settings_of
from .question import Measure, Question
from .sections import Figure, Material, Section, Table
from .tables import NUMBERS, comparison_table, share_of_room

MOST_EFFECTS = 30  # rows of the figure; the table has all
ROOM = "share of the room left"
EVIDENCE = (
    "interval", "sign-flip test", "p", "Holm's correction", "smallest p", "probability of improvement", "sd between seeds", "best of many",
)  # fmt: skip


def lead(chosen: Comparison, question: Question, now: str = "after") -> Figure:
    """One line per unit, from before to `now`, in the comparison that the answer speaks of."""
    measure, (one, many) = question.measure, question.words
    values = chosen.units[["before", "after"]].set_axis([chosen.against, now], axis=1)
    over = f"{chosen.n} {many if chosen.n > 1 else one}"
    ends = " to ".join(_number(value, measure) for value in (chosen.before, chosen.after))
    return Figure(
        "lead",
        f"Each {one}: {chosen.against}, and {chosen.label}",
        f"A line a {one}, dashed where it lost. Diamonds and the thick line: the mean over {over}.",
        f"{chosen.gained} lines get better, {chosen.lost} worse, {chosen.tied} stay; the mean goes from {ends}.",
        draw.pairs(values, axis_of(measure), measure.higher_is_better),
        chosen.units.reset_index(names=question.unit),
    )


def evidence(comparisons: Sequence[Comparison], chosen: Comparison, question: Question) -> Section:
    """Effect and interval of every comparison, before any p."""
    frame = comparison_table(comparisons)
    frame.insert(0, "answer", [one is chosen for one in comparisons])
    digits = dict.fromkeys(("before", "after", "gain", "low", "high", "seed_sd"), question.measure.digits)
    digits |= {"p": 4, "p_holm": 4, "smallest_p": 4, "probability_of_improvement": 2}
    table = Table(
        "comparisons", "Comparisons", f"{RULE} The csv has more columns.", frame, digits,
        is_long=len(frame) > 10, only_in_file=_only_in_file(comparisons),
    )  # fmt: skip
    return Section("Evidence", [*besides(comparisons, question), _effects(comparisons, question), table], EVIDENCE)


def _only_in_file(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Columns for the csv alone: those with the same value in all rows, and those that repeat other columns."""
    told = [
        "kind",
        "tied",
        "p",
        "n_tested",
        "smallest_p",
        *(name for one in comparisons for name in one.setting if name not in NUMBERS),
    ]
    told += ["n_seeds", "seed_sd"] * all(one.n_seeds < 2 for one in comparisons)
    told += ["left_out"] * (not any(one.left_out for one in comparisons))
    told += ["against"] * (len({one.against for one in comparisons}) == 1)
    return tuple(dict.fromkeys(told))


def _effects(comparisons: Sequence[Comparison], question: Question) -> Figure:
    shown = list(comparisons[:MOST_EFFECTS])
    against = len({one.against for one in comparisons}) > 1
    rows = pd.DataFrame(
        [
            (f"{one.label} – {one.against}" if against else one.label, one.mean, one.low, one.high, one.n)
            for one in shown
        ],
        columns=["name", "mean", "low", "high", "n"],
    )
    rest = f" The first {len(shown)} of {len(comparisons)}; the table has all." if len(shown) < len(comparisons) else ""
    what = "" if against else f" against {shown[0].against}"
    caption = f"Mean gain{what} and its 95 % interval over {question.words[1]}; right of zero is better. "
    caption += f"Without a line: too few to tell.{rest}"
    alt = f"{len(shown)} comparisons, {sum(one.mean > 0 for one in shown)} of them with a mean gain above zero."
    return Figure(
        "effects", "Gain of each setting", caption, alt, draw.effects(rows, _gain_axis(question.measure)), rows
    )


def who(comparisons: Sequence[Comparison], chosen: Comparison, question: Question) -> Section:
    """Each unit's gain in the answer's comparison, its share of the room left, and how often the unit loses."""
    measure, (one, many) = question.measure, question.words
    units = with_room(chosen, measure).join(losses(comparisons)).reset_index(names=question.unit)
    frame = units.sort_values("gain", ignore_index=True)
    digits = dict.fromkeys(("before", "after", "gain", "largest loss"), measure.digits) | {f"{ROOM}, %": 0}
    about = f"The answer's comparison, the smallest gain first; then how many of all comparisons of its kind leave a {one} worse off."
    table = Table("units", f"Who gained, who lost, by {one}", about, frame, digits, is_long=len(frame) > 10)
    losers = draw.together(list(chosen.gains.sort_values().index[: chosen.lost]), most=10)
    told = (
        f"{chosen.lost} of {chosen.n} {many} got worse: {losers}."
        if chosen.lost
        else f"Of {chosen.n} {many} none got worse."
        if chosen.n > 1
        else f"The one {one} did not get worse."
    )
    return Section(
        f"Which {many} gain, which lose", [told, _bars(chosen, question), table], ("unit", "gain", "tie", ROOM)
    )


def _bars(chosen: Comparison, question: Question) -> Figure:
    interval = (chosen.low, chosen.high) if chosen.low < chosen.high else None
    band = "; dotted: the mean, band: its 95 % interval" if interval else ""
    return Figure(
        "gains",
        f"Gain of each {question.words[0]}",
        f"{chosen.label} against {chosen.against}{band}.",
        f"{chosen.gained} bars right of zero, {chosen.lost} left of it, {chosen.tied} at zero.",
        draw.bars(chosen.gains, _gain_axis(question.measure), interval),
        chosen.units[["gain"]].reset_index(names=question.unit),
    )


def with_room(chosen: Comparison, measure: Measure) -> pd.DataFrame:
    """The units with each gain also as a share, in %, of the room left. Without that column if the measure has no best
    value, or if the comparison is not with the base."""
    if measure.best is None or chosen.kind != "base":
        return chosen.units
    return chosen.units.assign(**{f"{ROOM}, %": 100 * share_of_room(chosen, measure.best)})


def losses(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """For each unit: in how many comparisons of the first kind it is worse off, of how many, and its largest loss."""
    kind = comparisons[0].kind
    gains = pd.concat([one.gains for one in comparisons if one.kind == kind])
    by = gains.groupby(level=0, sort=False)
    worse = (gains < 0).groupby(level=0).sum()
    return pd.DataFrame({"settings where worse": worse, "of": by.size(), "largest loss": by.min().clip(upper=0).abs()})


def amounts(
    material: Material, beside: Mapping[str, pd.DataFrame] | None = None, levels: Sequence[tuple[str, float]] = ()
) -> list[Figure]:
    """Scores against the amount of data: one line per mode, with all other settings as in the answer's comparison.
    `beside` and `levels` are as `draw.against` takes them. Empty if the study has only one amount."""
    question = material.question
    lines, thin = _lines(material) if question and question.amount else ({}, {})
    if len({x for line in lines.values() for x in line["x"]}) < 2:
        return []
    one, many = question.words
    few = (
        ""
        if all(line["low"].notna().all() for line in lines.values())
        else f" Without a band: fewer than {statistics.MIN_UNITS} {many}."
    )
    caption = (
        f"Thick: mean over {many}, band: its 95 % interval; thin: each {one}. Dashed: what it is measured against.{few}"
    )
    ends = [f"{name} from {_number(line['mean'].iloc[0], question.measure)} to {_number(line['mean'].iloc[-1], question.measure)}"
            for name, line in lines.items()]  # fmt: skip
    drawn = draw.against(lines, f"% {question.amount_words}".strip(), axis_of(question.measure), thin, beside, levels)
    data = _long({"mean": lines, "unit": thin, "beside": beside or {}}, levels)
    return [Figure("amounts", f"Score by amount{_besides(material)}", caption, "; ".join(ends), drawn, data)]


def _long(kinds: Mapping[str, Mapping[str, pd.DataFrame]], levels: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """Everything that is drawn, one row per point."""
    frames = [frame.assign(line=name, kind=kind) for kind, named in kinds.items() for name, frame in named.items()]
    return pd.concat(
        [*frames, pd.DataFrame([{"line": name, "kind": "level", "mean": level} for name, level in levels])]
    )


def _lines(material: Material) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """By mode: the mean over units and its interval at each amount; and the values of the units."""
    question: Question = material.question
    points: dict[str, list[dict[str, Any]]] = {}
    units: dict[str, list[pd.DataFrame]] = {}
    for setting, rows in settings_of(question.rows(material.summary), question):
        if question.amount not in setting or not _as_chosen(setting, material):
            continue
        name, x = str(setting.get("mode", question.treatment)), 100 * float(setting[question.amount])
        values = runs_of(rows, question.measure.column, question).groupby(question.unit, sort=False)["value"].mean()
        if len(values):
            points.setdefault(name, []).append({"x": x, "mean": values.mean(), **_interval(values), "n": len(values)})
            units.setdefault(name, []).append(pd.DataFrame({"x": x, "unit": values.index, "value": values.to_numpy()}))
    lines = {name: pd.DataFrame(found).sort_values("x", ignore_index=True) for name, found in points.items()}
    return lines, {name: pd.concat(found).sort_values("x", kind="stable") for name, found in units.items()}


def _interval(values: pd.Series) -> dict[str, float]:
    """The interval of the mean; NaN if there are too few units."""
    if len(values) < statistics.MIN_UNITS:
        return {"low": np.nan, "high": np.nan}
    low, high = statistics.intervals(values.to_numpy()[None])
    return {"low": float(low[0]), "high": float(high[0])}


def _as_chosen(setting: dict[str, Any], material: Material) -> bool:
    """Whether a setting agrees with the answer's in all columns that both have, except mode and amount."""
    apart = ("mode", material.question.amount)
    chosen = material.chosen.setting if material.chosen else {}
    return all(chosen[name] == value for name, value in setting.items() if name in chosen and name not in apart)


def _besides(material: Material) -> str:
    apart = ("mode", material.question.amount)
    setting = material.chosen.setting if material.chosen else {}
    rest = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in setting.items()
        if name not in apart
    ]
    return f", with {', '.join(rest)}" if rest else ""


def axis_of(measure: Measure) -> str:
    return f"{measure.label}, {measure.unit}" if measure.unit else measure.label


def _gain_axis(measure: Measure) -> str:
    unit = measure.change_unit or measure.unit
    return f"gain, {unit}" if unit else "gain"


def _number(value: float, measure: Measure) -> str:
    return f"{value:.{measure.digits}f} {measure.unit}".rstrip()
