"""`summary.csv`: one row per experiment, its settings and results, read from published folders. Knows no task."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from ..machine.private import read_json
from ..study.plan import Experiment, Plan
from ..study.problems import Refusal

RESULTS_START = "base_hash"  # settings stand before this column, results after it


def summary_of(plan: Plan, columns: Callable[[dict], dict]) -> pd.DataFrame:
    """One row per experiment: settings by their spec names, `base_hash`, the task's `columns`, epochs, seconds, path.

    A setting that no experiment has is left out.
    """
    table = pd.DataFrame([_row(experiment, columns) for experiment in plan.experiments.values()])
    settings = list(dict.fromkeys(name for e in plan.experiments.values() for name in e.settings))
    results = [name for name in table if name not in settings]
    return table[[*(name for name in settings if table[name].notna().any()), *results]]


def swept_columns(summary: pd.DataFrame, apart: Sequence[str] = ()) -> list[str]:
    """The settings that differ between experiments, except those set `apart`; the mode, if any, comes first."""
    settings = list(summary.columns[: summary.columns.get_loc(RESULTS_START)])
    varying = [
        name
        for name in settings
        if name not in (*apart, "mode") and not _follows_mode(summary, name) and not _mirrors_base(summary, name)
    ]
    return (["mode"] if "mode" in settings else []) + varying


def as_text(table: pd.DataFrame, exact: Sequence[str] = ()) -> str:
    """A table for a terminal: numbers with one decimal, `exact` columns with three digits, empty columns left out."""
    shown = table.dropna(axis="columns", how="all").astype(object).where(table.notna(), "")
    formats = [".3g" if name in exact else ".1f" for name in shown]
    return tabulated(shown, floatfmt=tuple(formats))


def tabulated(table: pd.DataFrame, **how: Any) -> str:
    """A table as text under its column names; `how` as tabulate takes it."""
    frame: Any = table  # tabulate takes a DataFrame, which the type stubs do not know
    return tabulate(frame, headers="keys", showindex=False, tablefmt="simple", **how)


def columns_of(table: pd.DataFrame) -> list[str]:
    """The names of a table's columns, which are text in every table here."""
    return [str(name) for name in table.columns]


def _row(experiment: Experiment, columns: Callable[[dict], dict]) -> dict[str, Any]:
    try:
        done = read_json(Path(experiment.path) / "metrics.json")
        went = {"epochs": done["epochs"], "seconds": done["seconds"], "path": experiment.path}
        measured = columns(done["metrics"])
        _require_numbers(measured | {"epochs": went["epochs"], "seconds": went["seconds"]})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, Refusal) as error:
        raise Refusal(
            f"{experiment.path}/metrics.json: cannot be read ({error}); delete the folder and run again"
        ) from None
    if done.get("hash") != experiment.hash:
        raise Refusal(
            f"{experiment.path}: holds {done.get('hash')}, the plan wants {experiment.hash}; run the study again"
        )
    return _scalars(experiment.settings) | {RESULTS_START: experiment.base} | measured | went


def _require_numbers(row: dict[str, Any]) -> None:
    """Raise `TypeError` or `ValueError` for the first value that is not a number that a table can hold."""
    for name, value in row.items():
        if not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {type(value).__name__}, not a number")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError(f"{name} is too large")


def _scalars(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: " ".join(map(str, v)) if isinstance(v, tuple | list) else v for name, v in settings.items()}


def _follows_mode(summary: pd.DataFrame, name: str) -> bool:
    """Whether a column says nothing that `mode` does not say: one value (or none) within each mode."""
    if "mode" not in summary or name not in summary:
        return name in summary and summary[name].nunique(dropna=False) == 1
    return bool((summary.groupby("mode")[name].nunique(dropna=False) <= 1).all())


def _mirrors_base(summary: pd.DataFrame, name: str) -> bool:
    """Whether all fine-tunes have the value of their base, so that the base's column already shows it."""
    base = f"base_{name}"
    if base not in summary:
        return False
    given = summary[summary[name].notna()]
    return bool((given[name] == given[base]).all())  # a value without a base (target_only) mirrors none
