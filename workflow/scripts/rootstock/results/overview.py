"""What the page shows of every study: coverage, what sharing saved, time and memory, experiments, and provenance.

Everything comes in as plain values: plans, stores and records of jobs are read elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from . import draw
from .sections import Figure, Section, Table
from .summary import RESULTS_START, columns_of, swept_columns
from .wording import counted

HOUR = 3600.0


@dataclass(frozen=True)
class Sharing:
    """Base trainings: how many there are, how many there would be without sharing, and how many seconds those took
    whose time was recorded."""

    trained: int
    alone: int
    recorded: int  # of `trained`
    seconds: float
    seconds_alone: float


def coverage(grid: pd.DataFrame, missing: pd.DataFrame) -> Section:
    """How much of the grid is done. `grid`: one row per setting, with columns wanted, done, failed, missing. `missing`:
    one row per missing experiment: who, path, why."""
    total = grid[["wanted", "done", "failed", "missing"]].sum()
    if total["done"] == total["wanted"] and missing.empty:
        are_there = f"All {total['wanted']} experiments of the study are there."
        return Section("Coverage", [are_there if total["wanted"] > 1 else "The one experiment of the study is there."])
    told = f"{total['done']} of {total['wanted']} experiments are there, {total['failed']} failed, "
    told += f"{total['missing']} are missing otherwise."
    parts = [told, Table("coverage", "By setting", "Experiments of each setting.", grid, is_long=len(grid) > 10)]
    if len(missing):
        parts.append(
            Table(
                "missing",
                "What is missing, and why",
                "The reason is the last line that it left.",
                missing,
                is_long=len(missing) > 10,
            )
        )
    return Section("Coverage", parts)


def sharing(saved: Sharing, stages: Sequence[tuple[str, int]]) -> Section:
    """What was trained once instead of many times, and the stages of the study at a glance."""
    boxes = [(name, f"{count}") for name, count in stages if count]
    told = ", then ".join(f"{count} × {name}" for name, count in boxes)
    drawn = Figure(
        "stages", "Stages", "What is made from what, from left to right, and how often.", f"Boxes in a row: {told}.",
        draw.boxes(boxes), pd.DataFrame(boxes, columns=["stage", "count"]),
    )  # fmt: skip
    return Section("Stages and sharing", [_saved(saved), *([drawn] if boxes else [])])


def _saved(saved: Sharing) -> str:
    if not saved.trained:
        return "No experiment starts from a base model, so none is shared."
    spared = saved.alone - saved.trained
    serve = counted(saved.trained, "base training serves", "base trainings serve")
    told = f"{serve} the study; without sharing there would be {saved.alone}: {spared} saved."
    if not saved.recorded:
        return told
    some = "" if saved.recorded == saved.trained else f" (those {saved.recorded} of which it was recorded)"
    spared_time = span(saved.seconds_alone - saved.seconds)
    return (
        f"{told} Training took {span(saved.seconds)}{some} instead of {span(saved.seconds_alone)}: {spared_time} saved."
    )


def span(seconds: float) -> str:
    """A duration in a suitable unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def costs(records: pd.DataFrame) -> Section:
    """Time and memory by stage, as far as recorded. `records`: one row per training or job, with `stage`, `training
    seconds`, `job seconds`, `memory MB` and `GPU memory MB`; NaN is not recorded."""
    measured = [name for name in records.columns if name != "stage" and records[name].notna().any()]
    if not measured:
        return Section("Time and memory", [])
    rows = []
    for stage, group in records.groupby("stage", sort=False):
        row: dict[str, Any] = {"stage": stage, "count": len(group)}
        for name in measured:
            values = group[name].dropna()
            row |= {
                f"{name}, total": values.sum(min_count=1),
                f"{name}, median": values.median(),
                f"{name}, most": values.max(),
            }
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame = frame[[name for name in columns_of(frame) if not ("memory" in name and name.endswith("total"))]]
    about = (
        "Training seconds: within a training, without its start. Job seconds: of the last job that made or fetched it. Memory: the "
        "most that a training's process had at once, pages that it shares with other jobs included; of a GPU, what its tensors took."
    )
    return Section("Time and memory", [Table("costs", "By stage", about, frame, dict.fromkeys(frame.columns[2:], 1))])


def experiments(summary: pd.DataFrame) -> Section:
    """All experiments: what differs between them as a table, the rest as a list."""
    settings = list(summary.columns[: summary.columns.get_loc(RESULTS_START)])
    apart = set(swept_columns(summary)) if len(summary) > 1 else set(summary.columns)
    apart |= {
        name
        for name in summary
        if name not in settings and (summary[name].nunique(dropna=False) > 1 or len(summary) == 1)
    }
    table = Table(
        "experiments", "All experiments", "A row each, fractions as measured. A click on a column's head sorts.",
        summary[[name for name in summary if name in apart]], is_long=len(summary) > 10,
    )  # fmt: skip
    rest = [(name, _values(summary, name)) for name in columns_of(summary) if name not in apart]
    alike = Table("alike", "The same in all, or in all of one mode", "Settings and results.",
                  pd.DataFrame(rest, columns=["column", "value"]), is_long=len(rest) > 10)  # fmt: skip
    return Section("Experiments", [table, *([alike] if rest else [])])


def _values(summary: pd.DataFrame, name: str) -> str:
    """The value of a column; by mode if it differs."""
    if summary[name].nunique(dropna=False) == 1:
        return _value(summary[name].iloc[0])
    if "mode" not in summary:
        return ", ".join(dict.fromkeys(map(_value, summary[name])))
    return ", ".join(
        f"{mode}: {', '.join(dict.fromkeys(map(_value, group)))}"
        for mode, group in summary.groupby("mode", sort=False)[name]
    )


def _value(value: object) -> str:
    return "none" if value is None or value != value else f"{value:g}" if isinstance(value, float) else str(value)


def provenance(facts: Mapping[str, str], models: pd.DataFrame) -> Section:
    """Where the results come from. `models`: one row per trained model."""
    table = pd.DataFrame(list(facts.items()), columns=["what", "value"])
    parts = [Table("provenance", "Made by and from", "What the models' own records say.", table)]
    about = "Base models and experiments by the hash of their spec; their specs and checksums are in the csv."
    return Section(
        "Provenance",
        [
            *parts,
            Table(
                "models",
                "Models",
                about,
                models,
                is_long=len(models) > 10,
                only_in_file=("sha256 of the model", "spec"),
            ),
        ],
    )


def differences(summaries: tuple[pd.DataFrame, pd.DataFrame], names: tuple[str, str]) -> pd.DataFrame:
    """The settings in which two studies differ: one row per setting, with the values of each study."""
    rows = []
    for column in dict.fromkeys([*_settings(summaries[0]), *_settings(summaries[1])]):
        values = [_all_values(summary, column) for summary in summaries]
        if values[0] != values[1]:
            rows.append((column, *values))
    return pd.DataFrame(rows, columns=["setting", *(f"in {name}" for name in names)])


def _settings(summary: pd.DataFrame) -> list[str]:
    return list(summary.columns[: summary.columns.get_loc(RESULTS_START)])


def _all_values(summary: pd.DataFrame, column: str) -> str:
    if column not in summary:
        return ""
    return ", ".join(
        dict.fromkeys(f"{value:g}" if isinstance(value, float) else str(value) for value in summary[column].dropna())
    )
