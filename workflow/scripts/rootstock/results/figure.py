"""The figure of a study: one row per setting, one dot per unit, a bar for the mean."""

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "rootstock"  # the same results draw the same file

import pandas as pd
from matplotlib import pyplot as plt

from ..store.files import write_atomically

MOST_ROWS = 40


def dots_by_row(rows: list[tuple[str, pd.Series]], label: str, path: Path) -> None:
    """Draw each row's values and their mean. Rows without a value and rows beyond `MOST_ROWS` are left out."""
    rows = [row for row in rows if len(row[1])][:MOST_ROWS]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.32 * len(rows)), layout="constrained")
    for height, (_, values) in enumerate(rows):
        axes.plot(values, [height] * len(values), "o", color="#3b6ea5", alpha=0.5, markersize=5, markeredgewidth=0)
        axes.plot([values.mean()] * 2, [height - 0.35, height + 0.35], color="#1b1b1b", linewidth=2)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    drawn = BytesIO()
    figure.savefig(drawn, metadata={"Date": None})
    plt.close(figure)
    write_atomically(path, drawn.getvalue())
