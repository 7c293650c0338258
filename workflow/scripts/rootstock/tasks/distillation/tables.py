"""Rows of distillation's results, as table, question and page read them."""

from typing import Any

import pandas as pd

from ...results.question import UNTRAINED
from ...results.summary import columns_of, swept_columns

SCORES = {"recall_at_1": "R@1", "recall_at_10": "R@10", "mrr": "MRR", "ndcg_at_10": "nDCG@10"}
APART = ("architecture", "student_name", "base_layers", "projection_hidden_dim", "mrl_dimensions", "base_seed", "seed")
AT_DIMENSION = "recall_at_1_at_dim_"


def phase_2(summary: pd.DataFrame) -> pd.DataFrame:
    """The students after phase 2, with the recall that the same student had before it."""
    return summary[summary["mode"] != UNTRAINED].assign(text="all")


def varied(summary: pd.DataFrame) -> list[str]:
    """The settings in which trainings of one student differ, except mode and seeds."""
    return [name for name in swept_columns(summary, APART) if name != "mode"]


def varied_seeds(summary: pd.DataFrame) -> list[str]:
    return [name for name in ("base_seed", "seed") if name in summary and summary[name].nunique() > 1]


def nested_dimensions(summary: pd.DataFrame) -> list[int]:
    """The numbers of first dimensions of a vector that were measured by themselves, ascending."""
    names = columns_of(summary)
    return sorted(int(name.removeprefix(AT_DIMENSION)) for name in names if name.startswith(AT_DIMENSION))


def students(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with three more columns: `phase`, and names for figures from the student's layers and all settings
    that vary (`student`) or only those of phase 1 (`started_as`)."""
    names = varied(summary)
    of_phase_1 = [name for name in names if name.startswith("base_") or name in ("student", "teacher")]
    rows = summary.to_dict("records")
    called = {
        "student": [_called(one, names) for one in rows],
        "started_as": [_called(one, of_phase_1) for one in rows],
    }
    return summary.assign(**called, phase=(summary["mode"] != UNTRAINED) + 1)


def _called(one: dict[Any, Any], names: list[str]) -> str:
    """A name for figures; settings without a value are left out."""
    settings = [_set(name, one[name]) for name in names if one[name] == one[name]]
    update = ["lora"] if one["mode"] == "lora" else []
    return ", ".join([one["student_name"], f"{one['layers']} layers", *update, *settings])


def _set(name: str, value: object) -> str:
    return f"{name} {f'{value:g}' if isinstance(value, float) else value}"
