"""Rows of a language model's results, as tables, question and page read them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from ...machine.private import read_json
from ...results.summary import columns_of
from ...study.problems import Refusal
from .settings import GENERAL

TRUNK, COOL_DOWN = "trunk", "cool_down"
SAME_COURSE = ["base_hash", "max_steps", "batch_size", "schedule", "lr", "warmup_steps", "optimizer"]
SETTINGS = ("mode", "target_data_pct", "trained_layers", "rank", "alpha", "targets", "base_max_steps", "max_steps")


def branches_of(summary: pd.DataFrame) -> pd.DataFrame:
    """The branches, with their loss on their own domain (`branch`), that of their trunk (`trunk`), and that of the
    trunk continued on all text for as many tokens at the same learning rates (`continued`; NaN if there is none)."""
    is_branch = summary["mode"] != COOL_DOWN
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
    """One row per branch: its loss, its trunk's, and that of the trunk continued on all text for as many tokens.

    With several seeds, a value is the mean over them.
    """
    branches = branches_of(summary)
    table = branches.reindex(columns=["domain", *SETTINGS, "trunk", "continued", "branch"])
    table["perplexity"] = np.exp(branches["branch"])
    table["general before"] = branches[f"base_loss_{GENERAL}"]
    table["general after"] = branches[f"loss_{GENERAL}"]
    table["test tokens"] = _own(branches, branches, "test_tokens_")
    return table.groupby(["domain", *SETTINGS], sort=False, dropna=False).mean().reset_index()


def cool_down_table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per trunk and per cool-down, one column per text; means over seeds."""
    texts = [name.removeprefix("base_loss_") for name in columns_of(summary) if name.startswith("base_loss_")]
    rows = [
        {
            "mode": mode,
            "base_max_steps": row["base_max_steps"],
            "max_steps": row["max_steps"] if prefix == "loss" else None,
        }
        | {text: row[f"{prefix}_{text}"] for text in texts}
        for _, row in summary.iterrows()
        for mode, prefix in ((TRUNK, "base_loss"), (COOL_DOWN, "loss"))
        if prefix == "base_loss" or row["mode"] == COOL_DOWN
    ]
    return pd.DataFrame(rows).groupby(["base_max_steps", "mode", "max_steps"], dropna=False).mean().reset_index()


def _own(branches: pd.DataFrame, values: pd.DataFrame, prefix: str) -> pd.Series:
    """For each branch, the value of its own domain in `values`: one row per branch, one column per `prefix` + text."""
    own = [
        value[f"{prefix}{domain}"] for domain, value in zip(branches["domain"], values.to_dict("records"), strict=True)
    ]
    return pd.Series(own, index=branches.index, dtype=float)


def tokens_of(summary: pd.DataFrame, prefix: str = "") -> pd.Series:
    """Million tokens in the budget of each row's training, or with prefix `base_` of its trunk."""
    return summary[f"{prefix}max_steps"] * summary[f"{prefix}batch_size"] * summary["base_context_length"] / 1e6


def texts_of(summary: pd.DataFrame) -> list[str]:
    """The texts that every model was measured on: the domains of the data, then all of them together."""
    names = [name.removeprefix("base_loss_") for name in columns_of(summary) if name.startswith("base_loss_")]
    return sorted(names, key=lambda name: name == GENERAL)


def trunk_names(summary: pd.DataFrame, apart: tuple[str, ...] = ()) -> pd.Series:
    """The name of each row's trunk, from the settings in which trunks differ, except those in `apart`."""
    settings = [name for name in columns_of(summary) if name.startswith(("base_", "data_"))]
    settings = [name for name in settings if name not in ("base_hash", *apart) and not name.startswith("base_loss_")]
    varied = [name for name in settings if summary[name].nunique(dropna=False) > 1]
    names = [", ".join([TRUNK, *(_set(name.removeprefix("base_"), one[name]) for name in varied if one[name] == one[name])])
             for one in summary.to_dict("records")]  # fmt: skip
    return pd.Series(names, index=summary.index)


def cool_downs_of(summary: pd.DataFrame, apart: tuple[str, ...] = ()) -> pd.DataFrame:
    """The cool-downs, with `called`: the name of the trunk and the number of steps of the cool-down."""
    cooled = summary.assign(trunk=trunk_names(summary, apart))[summary["mode"] == COOL_DOWN]
    called = [f"{one['trunk']}, cooled down for {one['max_steps']:g} steps" for one in cooled.to_dict("records")]
    return cooled.assign(called=called)


def bytes_to_test(folder: Path) -> dict[str, int]:
    """Bytes of the test set of each domain of prepared text, and of all of it; empty if they were not recorded."""
    try:
        domains = read_json(folder / "manifest.json")["domains"]
        sizes = {name: sum(int(shard["bytes"]) for shard in splits["test"]) for name, splits in domains.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, Refusal):
        return {}
    return sizes | {GENERAL: sum(sizes.values())}


def bits_a_byte(rows: pd.DataFrame, sizes: dict[str, dict[str, int]]) -> pd.DataFrame:
    """Factors that turn nats per token into bits per byte: one row per row of `rows`, one column per text.

    `sizes` has, by path of the experiment, the bytes of the test set of each text. Without them a factor is NaN.
    """
    factors = {
        text: [
            one[f"test_tokens_{text}"] / (math.log(2) * sizes[one["path"]][text])
            if sizes.get(one["path"], {}).get(text)
            else math.nan
            for one in rows.to_dict("records")
        ]
        for text in texts_of(rows)
    }
    return pd.DataFrame(factors, index=rows.index)


def _set(name: str, value: object) -> str:
    return f"{name} {f'{value:g}' if isinstance(value, float) else value}"
