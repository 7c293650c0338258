"""Tables for a terminal with a row a setting: the shares of a person's windows stand side by side, where a study has several."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ...results.summary import as_text, columns_of

SHARE = "target_data_pct"
OF_A_ROW = (  # what a table over people says of each row beside its setting
    "people", "windows", "n train", "mean", "sd", "worst", "gain", "macro F1", "seeds", "sd of seeds",
)  # fmt: skip


def text_of(table: pd.DataFrame) -> str:
    """A table over people as text. Shares side by side leave room for the mean and the worst person; the page has the rest."""
    return as_text(by_share(table) if has_shares(table) else table, (SHARE,))


def told_of(table: pd.DataFrame) -> str:
    """What a cell of shares side by side is, and over how many people and windows; nothing where each has a column."""
    if not has_shares(table):
        return ""
    seeds = ", ± sd over seeds" if _has_seeds(table) else ""
    counts = [f"{table[name].iloc[0]} {name}" for name in ("people", "windows") if table[name].nunique() == 1]
    return f": mean over people{seeds} (worst person){''.join(f', {one}' for one in counts)}"


def has_shares(table: pd.DataFrame) -> bool:
    return SHARE in table and table[SHARE].nunique() > 1


def by_share(table: pd.DataFrame) -> pd.DataFrame:
    """A row a setting, a column a share, in the order of their sizes; who learns nothing from the person stands at 0 %."""
    shares = sorted(table[SHARE].fillna(0.0).astype(float).unique())
    settings = [name for name in columns_of(table) if name not in (SHARE, *OF_A_ROW)]
    rows: dict[tuple, dict[str, Any]] = {}
    for one in table.to_dict("records"):
        setting = {name: "" if pd.isna(one[name]) else one[name] for name in settings}
        row = rows.setdefault(tuple(setting.values()), {**setting, **dict.fromkeys(map(_percent, shares), "")})
        row[_percent(0.0 if pd.isna(one[SHARE]) else one[SHARE])] = _cell(one)
    return pd.DataFrame(list(rows.values()))


def _cell(one: Mapping[Any, Any]) -> str:
    seeds = f" ± {one['sd of seeds']:.1f}" if not pd.isna(one.get("sd of seeds")) else ""
    return f"{one['mean']:.1f}{seeds} ({one['worst']:.1f})"


def _percent(share: float) -> str:
    return f"{100 * float(share):.4g} %"


def _has_seeds(table: pd.DataFrame) -> bool:
    return "sd of seeds" in table and bool(table["sd of seeds"].notna().any())
