"""What is shown of language models: losses on each domain's test set, before and after, and against the trunk continued."""

from pathlib import Path
from typing import Any

import pandas as pd

from ...results.figure import dots_by_row
from ...results.question import Measure, Question
from ...results.summary import columns_of, swept_columns, tabulated
from .sections import methods as methods
from .sections import sections as sections
from .tables import SETTINGS, branch_table, branches_of, cool_down_table

LOSS = Measure(
    "branch",
    "trunk",
    "loss on the domain's test set",
    "nats a token",
    higher_is_better=False,
    digits=3,
    change_unit="nats",
)


def result_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """The result columns of one branch: loss on every text before (`base_`) and after, in nats per token."""
    values = {f"base_loss_{name}": measured["loss"] for name, measured in metrics["base"].items()}
    values |= {f"loss_{name}": measured["loss"] for name, measured in metrics["test"].items()}
    values |= {f"test_tokens_{name}": measured["tokens"] for name, measured in metrics["test"].items()}
    return values | {"n_train_tokens": metrics["n_train"], "parameters": metrics["parameters"]}


def question(summary: pd.DataFrame) -> Question | None:
    """Does a branch model its own domain better than its trunk, and than the trunk continued on all text? None if there
    are no branches."""
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
        parts += ["Branches, on the test set of their own domain: loss, nats a token", _as_text(branches)]
    if len(cooled := cool_down_table(summary)):
        parts += ["Trunk and its cool-downs, on the test set of each text: loss, nats a token", _as_text(cooled)]
    parameters = ", ".join(f"{count:,}" for count in sorted(summary["parameters"].unique()))
    seeds = ", ".join(map(str, sorted(summary["base_seed"].unique())))
    return "\n\n".join([*parts, f"Parameters: {parameters}. Seeds of the trunk: {seeds}."]) + "\n"


def draw(summary: pd.DataFrame, path: Path) -> None:
    """How much a branch gains on its own domain: one row per setting, one dot per domain, a line for the mean."""
    rows = []
    branches = branch_table(summary)
    for key, group in branches.groupby([name for name in SETTINGS if name in branches], sort=False, dropna=False):
        label = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in key if value == value)
        rows.append((label, group.set_index("domain")["trunk"] - group.set_index("domain")["branch"]))
    dots_by_row(rows, "gain over the trunk on the own domain, nats a token  (dot: a domain, line: mean)", path)


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
