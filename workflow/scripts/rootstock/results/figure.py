"""One picture of a study: each person's accuracy under each setting, base models first."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "rootstock"  # the same results draw the same file

import pandas as pd
from matplotlib import pyplot as plt

from .table import swept_columns

MOST_ROWS = 40


def draw(summary: pd.DataFrame, path: Path) -> None:
    """A dot a person, a bar for the mean, a row a setting."""
    rows = [("base model", 100 * summary.groupby("target")["base_test_accuracy"].mean().dropna())]
    by = swept_columns(summary)
    for key, group in summary.groupby(by, sort=False, dropna=False):
        label = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in key if v == v and v is not None)
        rows.append((label, 100 * group.groupby("target")["test_accuracy"].mean()))
    rows = [row for row in rows if len(row[1])][:MOST_ROWS]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.32 * len(rows)), layout="constrained")
    for height, (_, values) in enumerate(rows):
        axes.plot(values, [height] * len(values), "o", color="#3b6ea5", alpha=0.5, markersize=5, markeredgewidth=0)
        axes.plot([values.mean()] * 2, [height - 0.35, height + 0.35], color="#1b1b1b", linewidth=2)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy on the person's test part, %  (dot: a person, line: mean)")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
