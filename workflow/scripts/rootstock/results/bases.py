"""Results of a study that trains only base models: one row per model, in a table and a figure. Knows no task."""

from pathlib import Path
from typing import Any

import pandas as pd

from ..machine.private import read_json
from ..study import paths
from ..study.plan import BaseTraining, Plan
from ..study.problems import Refusal
from .figure import dots_by_row
from .summary import RESULTS_START, columns_of, swept_columns, tabulated

MEASURED = "val_"  # prefix of what is measured on the data that chooses the epoch


def summary_of_bases(plan: Plan) -> pd.DataFrame:
    """One row per base model that nothing starts from: the settings of its spec, `base_hash`, the values of its best
    epoch on the data that chose it, then steps, seconds and path."""
    rows = [_row(plan.bases[name]) for name in plan.lone_bases]
    settings = list(dict.fromkeys(name for own, _ in rows for name in own))
    table = pd.DataFrame([own | found for own, found in rows])
    results = [name for name in columns_of(table) if name not in settings]
    return table[[*(name for name in settings if table[name].notna().any()), *results]]


def render_bases(summary: pd.DataFrame) -> str:
    """A table for a terminal: the settings that differ, and the results."""
    shown = pd.DataFrame({name: summary[name].map(_cell) for name in swept_columns(summary)})
    shown["base model"] = summary[RESULTS_START].str[:8]
    for name in [*_measured(summary), "steps", "seconds"]:
        shown[name] = summary[name].map(_cell)
    return f"Base models, on the data that chose their weights\n\n{tabulated(shown, disable_numparse=True)}\n"


def draw_bases(summary: pd.DataFrame, path: Path) -> None:
    """Draw the loss of each base model."""
    losses = zip(summary[RESULTS_START], summary[f"{MEASURED}loss"], strict=True)
    rows = [(str(name)[:8], pd.Series([loss])) for name, loss in losses]
    dots_by_row(rows, "loss on the data that chose the weights", path)


def _row(base: BaseTraining) -> tuple[dict[str, Any], dict[str, Any]]:
    file = Path(paths.BASE_METADATA.format(hash=base.hash))
    try:
        done = read_json(file)
        best = done["history"][done["best_epoch"] - 1]
        found = {name: float(value) for name, value in best.items() if name.startswith(MEASURED)}
        went = {"steps": int(done["steps"]), "seconds": float(done["seconds"]), "path": paths.base_model(base.hash)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, Refusal) as error:
        raise Refusal(f"{file}: cannot be read ({error}); delete it and its model and run again") from None
    return _settings(base.spec.model_dump()), {RESULTS_START: base.hash} | found | went


def _settings(spec: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The settings of a spec as columns; one of a section is named like `model.d_model`, and a list becomes text."""
    columns: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, dict):
            columns |= _settings(value, f"{before}{name}.")
        else:
            is_list = isinstance(value, list | tuple)
            columns[before + name] = " ".join(map(str, value)) if is_list else value
    return columns


def _measured(summary: pd.DataFrame) -> list[str]:
    return [name for name in columns_of(summary) if name.startswith(MEASURED)]


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
