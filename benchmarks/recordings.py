#!/usr/bin/env python
"""Results of a study that splits by recording: each setting against the base models, per direction.

    make run STUDY=config/studies/smartwatch_recordings.yaml
    python benchmarks/recordings.py results/smartwatch_recordings/summary.csv

A person's value is the mean over seeds. If a fine-tune may keep its base model, a row in brackets shows the fine-tunes
before that choice. `worse` counts people whose mean is below that of their base models. The interval is the page's, a
bootstrap over people.
"""

import sys
from pathlib import Path

import pandas as pd
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow/scripts"))

from rootstock.results.statistics import TIE, intervals


def table(path: str) -> list[dict]:
    rows = pd.read_csv(path).dropna(axis=1, how="all")
    settings = [name for name in ("mode", "target_shots", "target_data_pct", "base_share") if name in rows]
    found = []
    for direction, here in rows.groupby("adapt_on"):
        for key, group in here.groupby(settings, sort=False, dropna=False):
            about = {"adapted on": direction, "mode": key[0], "amount": _amount(dict(zip(settings, key, strict=True)))}
            found.append(about | _told(group, "test_accuracy"))
            if group.get("tuned_accuracy", pd.Series(dtype=float)).notna().any():
                found.append(about | {"mode": f"({key[0]})"} | _told(group, "tuned_accuracy"))
    return found


def _amount(setting: dict) -> str:
    if (shots := setting.get("target_shots", float("nan"))) == shots:
        return f"{shots:g} a class"
    share, of_base = (setting.get(name, float("nan")) for name in ("target_data_pct", "base_share"))
    mixed = f", {of_base:g} base" if of_base > 0 else ""
    return f"{100 * share:g} %{mixed}" if share == share else ""


def _told(group: pd.DataFrame, column: str) -> dict:
    """One row of the table, over people, in percent."""
    means = 100 * group.groupby("target")[[column, "base_test_accuracy"]].mean()
    gains = means[column] - means["base_test_accuracy"]
    low, high = intervals(gains.to_numpy()[None])
    return {
        "windows": round(group.groupby("target")["n_target_train"].mean().mean(), 1),
        "mean": round(means[column].mean(), 2),
        "worst": f"{means[column].min():.1f} ({means[column].idxmin()})",
        "gain": f"{gains.mean():+.2f} [{low[0]:+.2f}, {high[0]:+.2f}]",
        "worse": int((gains < -TIE).sum()),
        "seeds": group["base_seed"].nunique() if "base_seed" in group else 1,
    }


if __name__ == "__main__":
    match sys.argv[1:]:
        case [path]:
            print(tabulate(table(path), headers="keys", tablefmt="github"))
        case _:
            sys.exit(__doc__)
