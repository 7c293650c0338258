"""`summary.csv`: a row an experiment, its settings and its results; read from the published folders."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from ..study.plan import Experiment, Plan
from ..study.problems import Refusal

RESULT_COLUMNS = (
    "base_hash",
    "n_target_train",
    "base_test_loss",
    "base_test_accuracy",
    "base_test_f1",
    "base_all_accuracy",
    "test_loss",
    "test_accuracy",
    "test_f1",
    "epochs",
    "seconds",
    "path",
    "n_test",
    "n_test_all",
)


def summary_of(plan: Plan) -> pd.DataFrame:
    """One row an experiment of the plan: settings under their spec names, then `RESULT_COLUMNS`, then counts."""
    rows = [_row(experiment) for experiment in plan.experiments.values()]
    table = pd.DataFrame(rows)
    settings = [name for name in table if name not in RESULT_COLUMNS]
    table = table[[*settings, *RESULT_COLUMNS]]
    return table[_kept(table)]


def _kept(table: pd.DataFrame) -> list[str]:
    """All result columns, and the settings that at least one experiment has."""
    return [name for name in table if name in RESULT_COLUMNS or table[name].notna().any()]


def _row(experiment: Experiment) -> dict[str, Any]:
    try:
        done = json.loads((Path(experiment.path) / "metrics.json").read_text())
    except (OSError, ValueError) as error:
        raise Refusal(
            f"{experiment.path}/metrics.json: cannot be read ({error}); delete the folder and run again"
        ) from None
    if done.get("hash") != experiment.hash:
        raise Refusal(
            f"{experiment.path}: holds {done.get('hash')}, the plan wants {experiment.hash}; run the study again"
        )
    metrics = done["metrics"]
    values = {f"{part}_{name}": metrics.get(part, {}).get(name) for part, name in _MEASURED}
    return _scalars(experiment.settings) | {
        **values,
        "base_hash": experiment.base,
        "n_target_train": metrics.get("n_target_train", 0),
        "epochs": done["epochs"],
        "seconds": done["seconds"],
        "path": experiment.path,
        "n_test": metrics.get("test", {}).get("n"),
        "n_test_all": metrics.get("base_all", {}).get("n"),
    }


_MEASURED = (
    ("base_test", "loss"),
    ("base_test", "accuracy"),
    ("base_test", "f1"),
    ("base_all", "accuracy"),
    ("test", "loss"),
    ("test", "accuracy"),
    ("test", "f1"),
)


def _scalars(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: " ".join(map(str, v)) if isinstance(v, tuple | list) else v for name, v in settings.items()}
