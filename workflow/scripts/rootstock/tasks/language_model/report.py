"""What is shown of language models: losses on each domain's test part, before and after, and against the trunk continued."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from ...results.figure import dots_by_row
from ...results.summary import columns_of, tabulated
from .settings import GENERAL

TRUNK = "trunk"
SETTINGS = ("mode", "target_data_pct", "trained_layers", "base_max_steps", "max_steps")


def result_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """The result columns of one branch: loss on every text before (`base_`) and after, in nats a token."""
    values = {f"base_loss_{name}": measured["loss"] for name, measured in metrics["base"].items()}
    values |= {f"loss_{name}": measured["loss"] for name, measured in metrics["test"].items()}
    values |= {f"test_tokens_{name}": measured["tokens"] for name, measured in metrics["test"].items()}
    return values | {"n_train_tokens": metrics["n_train"], "parameters": metrics["parameters"]}


def render(summary: pd.DataFrame, baselines: list[dict[str, Any]]) -> str:
    """A table for branches on their own domain, and one for cool-downs on every text."""
    parts = []
    if len(branches := branch_table(summary)):
        parts += ["Branches, on the test part of their own domain: loss, nats a token", _as_text(branches)]
    if len(cooled := cool_down_table(summary)):
        parts += ["Trunk and its cool-downs, on the test part of each text: loss, nats a token", _as_text(cooled)]
    parameters = ", ".join(f"{count:,}" for count in sorted(summary["parameters"].unique()))
    seeds = ", ".join(map(str, sorted(summary["base_seed"].unique())))
    return "\n\n".join([*parts, f"Parameters: {parameters}. Seeds of the trunk: {seeds}."]) + "\n"


def draw(summary: pd.DataFrame, path: Path) -> None:
    """How much a branch gains on its own domain: a row a setting, a dot a domain, a bar for the mean."""
    rows = []
    branches = branch_table(summary)
    for key, group in branches.groupby([name for name in SETTINGS if name in branches], sort=False, dropna=False):
        label = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in key if value == value)
        rows.append((label, group.set_index("domain")["trunk"] - group.set_index("domain")["branch"]))
    dots_by_row(rows, "gain over the trunk on the own domain, nats a token  (dot: a domain, line: mean)", path)


def branch_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row a branch: its loss, its trunk's, and that of the trunk continued on all text for as many tokens.

    With several seeds a value is the mean over them.
    """
    rows = []
    for _, branch in summary[summary["mode"] != "cool_down"].iterrows():
        own = branch["domain"]
        trunk, after = branch[f"base_loss_{own}"], branch[f"loss_{own}"]
        rows.append(
            {name: branch.get(name) for name in ("domain", *SETTINGS)}
            | {
                "trunk": trunk,
                "continued": _continued(summary, branch),
                "branch": after,
                "perplexity": math.exp(after),
                "general before": branch[f"base_loss_{GENERAL}"],
                "general after": branch[f"loss_{GENERAL}"],
                "test tokens": branch[f"test_tokens_{own}"],
            }
        )
    table = pd.DataFrame(rows)
    return table.groupby(["domain", *SETTINGS], sort=False, dropna=False).mean().reset_index() if rows else table


def cool_down_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row a trunk and a row a cool-down of it, a column a text; means over seeds."""
    texts = [name.removeprefix("base_loss_") for name in columns_of(summary) if name.startswith("base_loss_")]
    rows = [
        {
            "mode": mode,
            "base_max_steps": row["base_max_steps"],
            "max_steps": row["max_steps"] if prefix == "loss" else None,
        }
        | {text: row[f"{prefix}_{text}"] for text in texts}
        for _, row in summary.iterrows()
        for mode, prefix in ((TRUNK, "base_loss"), ("cool_down", "loss"))
        if prefix == "base_loss" or row["mode"] == "cool_down"
    ]
    return pd.DataFrame(rows).groupby(["base_max_steps", "mode", "max_steps"], dropna=False).mean().reset_index()


def _continued(summary: pd.DataFrame, branch: pd.Series) -> float | None:
    """The branch's domain after a cool-down of the same trunk with as many tokens at the same learning rates."""
    same = ["base_hash", "max_steps", "batch_size", "schedule", "lr", "warmup_steps", "optimizer"]
    alike = summary[summary["mode"] == "cool_down"]
    for name in same:
        alike = alike[alike[name] == branch[name]]
    return alike[f"loss_{branch['domain']}"].mean() if len(alike) else None


def _as_text(table: pd.DataFrame) -> str:
    """Losses with three digits; a setting that is the same everywhere is left out."""
    varied = [name for name in columns_of(table) if name not in SETTINGS or table[name].nunique(dropna=False) > 1]
    shown = pd.DataFrame({name: [_shown(name, value) for value in table[name]] for name in varied})
    right = ["left" if name in ("domain", "mode") else "right" for name in varied]
    return tabulated(shown, disable_numparse=True, colalign=right)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str) or value != value or value is None:
        return value if isinstance(value, str) else ""
    if name == "target_data_pct":
        return f"{value:g}"
    return f"{value:.{0 if name in (*SETTINGS, 'test tokens') else 1 if name == 'perplexity' else 3}f}"
