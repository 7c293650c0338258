"""Drawings for any task: pairs, gains, scores against an amount, curves, matrices, points. Values are as shown."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib

matplotlib.use("svg")

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from .svg import COLOURS, GREY, INK, PAPER, STYLE

WIDTH = 5.0  # inches: letters of 9 points are readable at 400 pixels, and with two drawings side by side
MARKS = ("o", "s", "^", "D", "v", "P")  # a second cue beside the colour
DASHES = ("--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
MOST_NAMES = 24  # labels beside the ends of lines; a drawing that needs more has none


@contextmanager
def styled() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


def drawing(height: float, columns: int = 1, rows: int = 1, **how: Any) -> tuple[Drawing, list[Axes]]:
    """A drawing of the common width, and its axes row by row. Call it inside `styled`, as all functions here do."""
    figure = Drawing(figsize=(WIDTH, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(rows, columns, **how)).ravel())


def cut(name: Any, most: int = 24) -> str:
    """A user's name, short enough for an axis; each unprintable character is replaced."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(name))
    return text if len(text) <= most else text[: most - 1] + "…"


def pairs(values: pd.DataFrame, measure: str, higher: bool = True) -> Drawing:
    """One line per unit (row) through its columns, from before to after; dashed if the last is worse than the first."""
    places = range(values.shape[1])
    with styled():
        figure, (axes,) = drawing(3.6)
        for _, own in values.iterrows():
            change = (own.iloc[-1] - own.iloc[0]) * (1 if higher else -1)
            colour = COLOURS[1] if change < 0 else COLOURS[0] if change > 0 else GREY
            style = "--" if change < 0 else "-"
            axes.plot(places, own, color=colour, linestyle=style, marker="o", markersize=4, linewidth=1.4)
        axes.plot(places, values.mean(), color=INK, linewidth=3, marker="D", markersize=6)
        axes.set_xticks(places, [cut(name, 28) for name in values.columns])
        axes.set_xlim(-0.25, places[-1] + 0.3 * len(places) + 0.1)
        axes.set_ylabel(measure)
        axes.grid(axis="x", visible=False)
        _name_ends(axes, values.iloc[:, -1])
    return figure


def _name_ends(axes: Axes, ends: pd.Series) -> None:
    """Write the names of units beside the ends of their lines: one label per end, moved apart if they would overlap."""
    groups = [(float(end), together(list(units.index))) for end, units in ends.groupby(ends)]
    if not 0 < len(groups) <= MOST_NAMES:
        return
    low, high = axes.get_ylim()
    places = spread([end for end, _ in groups], (high - low) / 20, high)
    at = axes.get_xticks()[-1]
    for (end, name), place in zip(groups, places, strict=True):
        arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(name, (at, end), (at + 0.12, place), va="center", fontsize=7.5, arrowprops=arrow)


def together(names: Sequence[Any], most: int = 3) -> str:
    """Several names as one label."""
    shown = ", ".join(cut(name, 14) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def spread(values: Sequence[float], step: float, high: float) -> list[float]:
    """Places near the sorted values, at least `step` apart and none above `high`."""
    places = list(values)
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + step)
    ceiling = high
    for k in reversed(range(len(places))):
        places[k] = min(places[k], ceiling)
        ceiling = places[k] - step
    return places


def bars(values: pd.Series, label: str, interval: tuple[float, float] | None = None) -> Drawing:
    """One bar per unit, the largest on top, in another colour below zero; the interval of the mean as a band."""
    ordered = values.sort_values()
    with styled():
        figure, (axes,) = drawing(0.9 + 0.24 * max(3, min(len(ordered), 60)))
        heights = range(len(ordered))
        colours = [COLOURS[1] if value < 0 else COLOURS[0] for value in ordered]
        if interval is not None:
            axes.axvspan(*interval, color=COLOURS[4], alpha=0.3, linewidth=0)
            axes.axvline(values.mean(), color=INK, linewidth=1.5, linestyle=":")
        axes.barh(heights, ordered, color=colours, height=0.66)
        axes.axvline(0, color=INK, linewidth=1)
        names = [cut(unit) for unit in ordered.index] if len(ordered) <= 60 else []
        axes.set_yticks(heights if names else [], names)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
    return figure


def against(
    lines: Mapping[str, pd.DataFrame],
    label_x: str,
    label_y: str,
    thin: Mapping[str, pd.DataFrame] | None = None,
    beside: Mapping[str, pd.DataFrame] | None = None,
    levels: Sequence[tuple[str, float]] = (),
) -> Drawing:
    """Scores against an amount: one line per setting (columns x, mean, low, high), `thin` lines for units (columns x,
    unit, value), dashed lines `beside` them (columns x, mean), and `levels` of what has no amount."""
    with styled():
        figure, (axes,) = drawing(4.2)
        for place, (name, line) in enumerate(lines.items()):
            look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)]}
            for _, own in (thin or {}).get(name, pd.DataFrame(columns=["unit"])).groupby("unit", sort=False):
                axes.plot(own["x"], own["value"], linewidth=0.6, alpha=0.35, **look)
            axes.fill_between(line["x"], line["low"], line["high"], alpha=0.18, linewidth=0, **look)
            axes.plot(
                line["x"],
                line["mean"],
                marker=MARKS[place % len(MARKS)],
                markersize=5,
                linewidth=2,
                label=cut(name, 40),
                **look,
            )
        for place, (name, line) in enumerate((beside or {}).items()):
            axes.plot(line["x"], line["mean"], color=INK, linewidth=1, linestyle=DASHES[place % len(DASHES)], label=cut(name, 40),
                      marker=MARKS[place % len(MARKS)], markersize=4, fillstyle="none")  # fmt: skip
        for place, (name, level) in enumerate(levels):
            axes.axhline(
                level, color=INK, linewidth=1.2, linestyle=DASHES[::-1][place % len(DASHES)], label=cut(name, 40)
            )
        _log_where_wide(axes, lines)
        axes.set_xlabel(label_x)
        axes.set_ylabel(label_y)
        _legend_below(figure)
    return figure


def _log_where_wide(axes: Axes, lines: Mapping[str, pd.DataFrame]) -> None:
    """Put amounts that span a factor of 8 or more on a logarithmic axis, each with a tick."""
    amounts = sorted({float(x) for line in lines.values() for x in line["x"]})
    if len(amounts) < 2 or amounts[0] <= 0:
        return
    if amounts[-1] / amounts[0] >= 8:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(amounts, [f"{amount:g}" for amount in amounts])


def _legend_below(figure: Drawing) -> None:
    figure.legend(loc="outside lower left", ncols=2, fontsize=8, handlelength=2.6)


def effects(rows: pd.DataFrame, label: str) -> Drawing:
    """One row per comparison (columns name, mean, low, high): the mean gain as a mark, any interval as a line."""
    with styled():
        names = [textwrap.fill(cut(name, 80), 42) for name in rows["name"]]
        figure, (axes,) = drawing(0.9 + (0.36 if any("\n" in name for name in names) else 0.25) * max(2, len(rows)))
        numbers = rows[["mean", "low", "high"]].to_numpy(dtype=float)
        for height, (mean, low, high) in enumerate(numbers):
            colour = COLOURS[1] if mean < 0 else COLOURS[0]
            axes.plot([low, high], [height, height], color=colour, linewidth=2)
            axes.plot([mean], [height], "D" if mean < 0 else "o", color=colour, markersize=5.5)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), names, fontsize=7.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
    return figure


def curves(
    lines: Mapping[str, pd.DataFrame], label_x: str, label_y: str, stops: Mapping[str, float] | None = None
) -> Drawing:
    """One curve per name (columns x, y), with its kept point marked if `stops` has one."""
    with styled():
        figure, (axes,) = drawing(3.6)
        for place, (name, line) in enumerate(lines.items()):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(line["x"], line["y"], color=colour, linewidth=1.4, label=cut(name, 40),
                      linestyle=("-", "--", ":", "-.")[place // len(COLOURS) % 4])  # fmt: skip
            kept = line[line["x"] == (stops or {}).get(name)]
            axes.plot(kept["x"], kept["y"], MARKS[place % len(MARKS)], color=colour, markersize=7, markeredgecolor=INK)
        if all((line["x"] % 1 == 0).all() for line in lines.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(label_x)
        axes.set_ylabel(label_y)
        _legend_below(figure)
    return figure


def matrices(named: Mapping[str, pd.DataFrame], label_x: str, label_y: str) -> Drawing:
    """Square tables of counts, each cell shaded by its share of the row; the diagonal is what was right."""
    size = max(len(frame) for frame in named.values())
    with styled():
        figure, all_axes = drawing(3.0 if size <= 12 else 4.2, columns=len(named))
        for axes, (name, frame) in zip(all_axes, named.items(), strict=True):
            counts = frame.to_numpy(dtype=float)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            for (row, column), share in np.ndenumerate(shares):
                colour = COLOURS[0] if row == column else COLOURS[1]
                axes.add_patch(
                    Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=0.75 * share, linewidth=0)
                )
                if size <= 12 and counts[row, column]:
                    axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", fontsize=6.5)
            axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", title=name)
            names = [cut(label, 10) for label in frame.index]
            axes.set_xticks(
                range(size), names if size <= 12 else [""] * size, rotation=90 if max(map(len, names)) > 2 else 0
            )
            axes.set_yticks(range(size), names if size <= 12 else [""] * size)
            axes.set_xlabel(label_x)
            axes.grid(visible=False)
        all_axes[0].set_ylabel(label_y)
    return figure


def scatters(named: Mapping[str, pd.DataFrame], label_x: str, label_y: str) -> Drawing:
    """Points (columns x, y, group), one colour and mark per group, in panels side by side on one scale."""
    groups = sorted({group for frame in named.values() for group in frame["group"]}, key=str)
    with styled():
        figure, all_axes = drawing(3.2, columns=len(named), sharex=True, sharey=True)
        for axes, (name, frame) in zip(all_axes, named.items(), strict=True):
            for place, group in enumerate(groups):
                own = frame[frame["group"] == group]
                mark = MARKS[(place // len(COLOURS) + place) % len(MARKS)]
                axes.plot(own["x"], own["y"], mark, markersize=3.5, alpha=0.8, markeredgewidth=0, label=cut(group, 16),
                          color=COLOURS[place % len(COLOURS)])  # fmt: skip
            axes.set(title=name, xlabel=label_x, xticks=[], yticks=[])
        all_axes[0].set_ylabel(label_y)
        handles, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=8, handlelength=1)
    return figure


def boxes(stages: Sequence[tuple[str, str]]) -> Drawing:
    """Boxes from left to right with arrows between them; each holds a name and the text below it."""
    with styled():
        figure, (axes,) = drawing(0.95)
        axes.set(xlim=(0, len(stages)), ylim=(0, 1))
        axes.axis("off")
        for place, (name, below) in enumerate(stages):
            axes.add_patch(FancyBboxPatch(
                (place + 0.1, 0.2), 0.76, 0.6, boxstyle="round,pad=0.02,rounding_size=0.06", fc=PAPER, ec=INK, linewidth=1,
            ))  # fmt: skip
            axes.text(
                place + 0.48, 0.63, cut(name, 18), ha="center", va="center", fontsize=6.8 if len(stages) < 5 else 5.6
            )
            axes.text(place + 0.48, 0.36, below, ha="center", va="center", fontsize=8, fontweight="bold")
            if place:
                axes.annotate(
                    "", (place + 0.09, 0.5), (place - 0.12, 0.5), arrowprops={"arrowstyle": "->", "color": INK}
                )
    return figure
