"""What is shown of language models: losses on each domain's test part, before and after, and against the trunk continued."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...results.figure import dots_by_row
from ...results.question import Measure, Question
from ...results.summary import columns_of, swept_columns, tabulated
from .settings import GENERAL

TRUNK = "trunk"
SAME_COURSE = ["base_hash", "max_steps", "batch_size", "schedule", "lr", "warmup_steps", "optimizer"]
SETTINGS = ("mode", "target_data_pct", "trained_layers", "rank", "alpha", "targets", "base_max_steps", "max_steps")

LOSS = Measure(
    "branch",
    "trunk",
    "loss on the domain's test part",
    "nats a token",
    higher_is_better=False,
    digits=3,
    change_unit="nats",
)


def result_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """The result columns of one branch: loss on every text before (`base_`) and after, in nats a token."""
    values = {f"base_loss_{name}": measured["loss"] for name, measured in metrics["base"].items()}
    values |= {f"loss_{name}": measured["loss"] for name, measured in metrics["test"].items()}
    values |= {f"test_tokens_{name}": measured["tokens"] for name, measured in metrics["test"].items()}
    return values | {"n_train_tokens": metrics["n_train"], "parameters": metrics["parameters"]}


def question(summary: pd.DataFrame) -> Question | None:
    """Does a branch model its own domain better than its trunk, and than the trunk continued on all text? None asks without
    branches."""
    branches = branches_of(summary)
    if branches.empty:
        return None
    return Question(
        measure=LOSS,
        unit="domain",
        words=("domain", "domains"),
        settings=tuple(swept_columns(branches, ("domain", "seed", "base_seed"))),
        seeds=("seed", "base_seed"),
        amount="target_data_pct",
        amount_words="of a domain's text",
        base="trunk",
        rivals=(("the trunk continued on all text", "continued"),),
        derive=branches_of,
    )


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


def branches_of(summary: pd.DataFrame) -> pd.DataFrame:
    """The branches, with their loss on their own domain (`branch`), that of their trunk, and that of the trunk continued on
    all text for as many tokens at the same learning rates (`continued`; NaN where the study has none)."""
    is_branch = summary["mode"] != "cool_down"
    branches = summary[is_branch]
    same = [name for name in SAME_COURSE if name in summary]
    continued = summary[~is_branch].groupby(same)
    losses = continued[[name for name in columns_of(summary) if name.startswith("loss_")]].mean()
    keys = pd.MultiIndex.from_frame(branches[same])
    return branches.assign(
        trunk=_own(branches, branches, "base_loss_"),
        branch=_own(branches, branches, "loss_"),
        continued=_own(branches, losses.reindex(keys), "loss_"),
    )


def branch_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row a branch: its loss, its trunk's, and that of the trunk continued on all text for as many tokens.

    With several seeds a value is the mean over them.
    """
    branches = branches_of(summary)
    table = branches.reindex(columns=["domain", *SETTINGS, "trunk", "continued", "branch"])
    table["perplexity"] = np.exp(branches["branch"])
    table["general before"] = branches[f"base_loss_{GENERAL}"]
    table["general after"] = branches[f"loss_{GENERAL}"]
    table["test tokens"] = _own(branches, branches, "test_tokens_")
    return table.groupby(["domain", *SETTINGS], sort=False, dropna=False).mean().reset_index()


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


def _own(branches: pd.DataFrame, values: pd.DataFrame, prefix: str) -> pd.Series:
    """For each branch the value of its own domain: of `values`, a row a branch, a column a text with `prefix` before."""
    own = [
        value[f"{prefix}{domain}"] for domain, value in zip(branches["domain"], values.to_dict("records"), strict=True)
    ]
    return pd.Series(own, index=branches.index, dtype=float)


def _as_text(table: pd.DataFrame) -> str:
    """Losses with three digits; a setting that is the same everywhere is left out."""
    varied = [name for name in columns_of(table) if name not in SETTINGS or table[name].nunique(dropna=False) > 1]
    shown = pd.DataFrame({name: [_shown(name, value) for value in table[name]] for name in varied})
    right = ["left" if name in ("domain", "mode") else "right" for name in varied]
    return tabulated(shown, disable_numparse=True, colalign=right)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str) or value != value or value is None:
        return value if isinstance(value, str) else ""
    if name in ("target_data_pct", "alpha"):
        return f"{value:g}"
    return f"{value:.{0 if name in (*SETTINGS, 'test tokens') else 1 if name == 'perplexity' else 3}f}"
