"""Tables for a terminal with one row per setting; several shares of a person's windows stand side by side."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ...results.summary import as_text, columns_of, tabulated

SHARE, SHOTS = "target_data_pct", "target_shots"
OF_A_ROW = (  # columns of a table over people beside the settings
    "people", "windows", "n train", "mean", "sd", "worst", "gain", "macro F1", "seeds", "sd of seeds",
)  # fmt: skip


def text_of(table: pd.DataFrame) -> str:
    """A table over people as text. Shares side by side leave room only for mean and worst person; the page has more."""
    return tabulated(by_share(table), disable_numparse=True) if has_shares(table) else as_text(table, (SHARE,))


def told_of(table: pd.DataFrame) -> str:
    """What the cells of shares side by side are, and over how many people and windows; empty without such shares."""
    if not has_shares(table):
        return ""
    seeds = ", ± sd over seeds" if _has_seeds(table) else ""
    counts = [f"{table[name].iloc[0]} {name}" for name in ("people", "windows") if table[name].nunique() == 1]
    return f": mean over people{seeds} (worst person){''.join(f', {one}' for one in counts)}"


def has_shares(table: pd.DataFrame) -> bool:
    return SHARE in table and table[SHARE].nunique() > 1


def by_share(table: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, one column per share, in increasing order. A setting that learns nothing from the person
    stands at 0 %, one that learns from a number of windows per class in the last column."""
    rows_in = table.to_dict("records")
    shares = sorted({_share(one) for one in rows_in})
    settings = [name for name in columns_of(table) if name not in (SHARE, *OF_A_ROW)]
    rows: dict[tuple, dict[str, Any]] = {}
    for one in rows_in:
        setting = {name: _setting(one[name]) for name in settings}
        row = rows.setdefault(tuple(setting.values()), {**setting, **dict.fromkeys(map(_column, shares), "")})
        row[_column(_share(one))] = _cell(one)
    return pd.DataFrame(list(rows.values()))


def _setting(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def _share(one: Mapping[Any, Any]) -> float:
    """The share of a row; infinite if the row has shots instead."""
    if not pd.isna(one.get(SHOTS)):
        return math.inf
    return 0.0 if pd.isna(one[SHARE]) else float(one[SHARE])


def _column(share: float) -> str:
    return "by shots" if share == math.inf else f"{100 * share:.4g} %"


def _cell(one: Mapping[Any, Any]) -> str:
    seeds = f" ± {one['sd of seeds']:.1f}" if not pd.isna(one.get("sd of seeds")) else ""
    return f"{one['mean']:.1f}{seeds} ({one['worst']:.1f})"


def _has_seeds(table: pd.DataFrame) -> bool:
    return "sd of seeds" in table and bool(table["sd of seeds"].notna().any())
