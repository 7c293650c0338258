"""More drawings, of named things: rows of marks, labelled points, a shaded table, panels of curves. See `draw`."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle

from .draw import MARKS, cut, drawing, styled
from .svg import COLOURS, INK

LINES = ("-", "--", ":", "-.")
FEW_CELLS = 12  # rows and columns of a table whose numbers can be read


def shorter(names: Sequence[str]) -> list[str]:
    """The names without the parts, between commas, that all share; unchanged if one would be empty or two equal."""
    parts = [name.split(", ") for name in names]
    common = set(parts[0]).intersection(*parts[1:]) if len(parts) > 1 else set()
    short = [", ".join(part for part in own if part not in common) for own in parts]
    return short if all(short) and len(set(short)) == len(short) else list(names)


def rows(values: pd.DataFrame, label: str, references: Sequence[tuple[str, float]] = ()) -> Drawing:
    """One row per name, with a mark per column of `values`, joined by a line; `references` are dashed, named lines."""
    with styled():
        figure, (axes,) = drawing(1.3 + 0.34 * max(2, len(values)))
        heights = np.arange(len(values))
        axes.hlines(heights, values.min(axis=1), values.max(axis=1), color=INK, alpha=0.2, linewidth=3)
        for place, name in enumerate(values):
            axes.plot(
                values[name],
                heights,
                MARKS[place % len(MARKS)],
                color=COLOURS[place % len(COLOURS)],
                label=cut(name, 40),
            )
        for name, level in references:
            axes.axvline(level, color=INK, linewidth=1, linestyle="--", label=cut(name, 40))
        axes.set_yticks(heights, [cut(name, 34) for name in shorter(list(values.index))])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8)
    return figure  # fmt: skip


def points(series: Mapping[str, pd.DataFrame], label_x: str, label_y: str) -> Drawing:
    """One mark and colour per series (columns x, y, name); a name that is not empty stands beside its point."""
    with styled():
        figure, (axes,) = drawing(3.8)
        for place, (name, frame) in enumerate(series.items()):
            axes.plot(
                frame["x"], frame["y"], MARKS[place % len(MARKS)], color=COLOURS[place % len(COLOURS)], label=cut(name, 40)
            )  # fmt: skip
            for _, point in frame[frame["name"] != ""].iterrows():
                axes.annotate(cut(point["name"]), (point["x"], point["y"]), (0, 6), textcoords="offset points",
                              ha="center", fontsize=7.5)  # fmt: skip
        axes.margins(0.18, 0.12)
        axes.set_xlim(left=0)
        axes.set_xlabel(label_x)
        axes.set_ylabel(label_y)
        figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    return figure


def shaded(values: pd.DataFrame, changes: pd.DataFrame, label_x: str, label_y: str, digits: int = 2) -> Drawing:
    """A table of numbers, each cell shaded by its change: one colour and a corner dot above zero, another below."""
    most = np.nanmax(np.abs(changes.to_numpy()), initial=1e-12)
    is_named = max(values.shape) <= FEW_CELLS
    with styled():
        figure, (axes,) = drawing(1.2 + 0.36 * len(values))
        for (row, column), change in np.ndenumerate(changes.to_numpy()):
            colour, alpha = COLOURS[1] if change > 0 else COLOURS[0], 0.75 * abs(np.nan_to_num(change)) / most
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=alpha, linewidth=0))
            if change > 0:
                axes.plot(column + 0.42, row - 0.36, ".", color=INK, markersize=3)
            if is_named:
                axes.text(column, row, f"{values.iat[row, column]:.{digits}f}", ha="center", va="center", fontsize=8)
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(len(values) - 0.5, -0.5), xlabel=label_x, ylabel=label_y)
        names = [cut(name, 14) for name in values.columns]
        axes.set_xticks(range(len(names)), names, rotation=30 if max(map(len, names)) * len(names) > 60 else 0)
        axes.set_yticks(range(len(values)), [cut(name, 20) for name in values.index])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def panels(
    named: Mapping[str, Mapping[str, pd.DataFrame]], label_x: str, label_y: str, kept: Mapping[tuple[str, str], float]
) -> Drawing:
    """One panel per name, each on its own scale; in it one curve per name (columns x, y), with its kept point marked. A
    curve looks the same in all panels."""
    looks = {
        name: place for place, name in enumerate(dict.fromkeys(name for lines in named.values() for name in lines))
    }
    columns = min(2, len(named))
    n_rows = -(-len(named) // columns)
    with styled():
        figure, all_axes = drawing(0.9 + 0.16 * len(looks) + (1.9 if columns == 2 else 2.8) * n_rows, columns, n_rows)
        for axes in all_axes[len(named) :]:
            axes.remove()
        for axes, (panel, lines) in zip(all_axes, named.items(), strict=False):
            for name, line in lines.items():
                _curve(axes, line, looks[name], kept.get((panel, name)))
            axes.set_title(cut(panel, 30))
        figure.supxlabel(label_x, fontsize=9)
        for axes in all_axes[: len(named) : columns]:
            axes.set_ylabel(label_y, fontsize=8)
        _legend(figure, all_axes[0], looks)
    return figure


def _curve(axes: Axes, line: pd.DataFrame, place: int, kept: float | None) -> None:
    colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
    axes.plot(line["x"], line["y"], color=colour, linewidth=1.4, linestyle=LINES[place // len(COLOURS) % len(LINES)])
    point = line[line["x"] == kept]
    axes.plot(point["x"], point["y"], mark, color=colour, markersize=6, markeredgecolor=INK)


def _legend(figure: Drawing, axes: Axes, looks: Mapping[str, int]) -> None:
    """One legend for all panels, because a panel may lack a curve."""
    handles = [
        axes.plot([], [], marker=MARKS[place % len(MARKS)], color=COLOURS[place % len(COLOURS)],
                  linestyle=LINES[place // len(COLOURS) % len(LINES)], label=cut(short, 60))[0]
        for short, place in zip(shorter(list(looks)), looks.values(), strict=True)
    ]  # fmt: skip
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside upper left", ncols=1, fontsize=8, handlelength=2.6)
