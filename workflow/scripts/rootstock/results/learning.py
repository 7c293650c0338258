"""Learning curves of a study's trainings as a figure. Knows no task."""

from collections.abc import Callable, Mapping

import pandas as pd

from . import draw_named
from .histories import History
from .sections import Figure

MOST_PANELS, MOST_CURVES = 12, 8


def curve(history: History, x: Callable[[int], float] = float) -> pd.DataFrame:
    """One row per epoch: its `x`, `val_loss`, `train_loss`, and `is_kept`, which says whether its weights were kept."""
    epochs = history.epochs
    if not len(history):
        return pd.DataFrame(columns=["x", "val_loss", "train_loss", "is_kept"])
    losses = epochs.reindex(columns=["val_loss", "train_loss"])
    return losses.assign(x=[x(epoch) for epoch in epochs["epoch"]], is_kept=epochs["epoch"] == history.kept)


def learning_curves(
    name: str, title: str, caption: str, panels: Mapping[str, Mapping[str, pd.DataFrame]], label_x: str, label_y: str
) -> list[Figure]:
    """Validation loss by `label_x`: one panel per name, one line per training. A panel in which no training was
    evaluated twice is left out; without any panel there is no figure."""
    told = {panel: lines for panel, lines in panels.items() if any(len(line) > 1 for line in lines.values())}
    shown = {panel: dict(list(lines.items())[:MOST_CURVES]) for panel, lines in list(told.items())[:MOST_PANELS]}
    if not shown:
        return []
    flat = {(panel, line): frame for panel, lines in shown.items() for line, frame in lines.items()}
    left_out = sum(map(len, told.values())) - len(flat)
    lines = {
        panel: {line: frame.rename(columns={"val_loss": "y"}) for line, frame in lines.items()}
        for panel, lines in shown.items()
    }
    kept = {who: float(frame["x"][frame["is_kept"]].iloc[0]) for who, frame in flat.items() if frame["is_kept"].any()}
    data = pd.concat([frame.assign(panel=panel, training=line) for (panel, line), frame in flat.items()])
    data = data[["panel", "training", "x", "train_loss", "val_loss", "is_kept"]].rename(columns={"x": label_x})
    more = f" {left_out} more trainings are not drawn." if left_out else ""
    alt = "; ".join(f"{line}, {panel}: {_ends(frame)}" for (panel, line), frame in flat.items() if len(frame))
    drawing = draw_named.panels(lines, label_x, label_y, kept)
    return [Figure(name, title, f"{caption}{more}", alt, drawing, data)]


def _ends(frame: pd.DataFrame) -> str:
    """A curve in words: where it begins, where it ends, and its kept point."""
    losses = frame["val_loss"]
    kept = losses[frame["is_kept"]]
    lowest = f", {kept.iloc[0]:.3g} kept" if len(kept) else ""
    return f"loss {losses.iloc[0]:.3g} to {losses.iloc[-1]:.3g}{lowest}"
