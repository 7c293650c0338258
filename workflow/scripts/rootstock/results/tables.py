"""Comparisons as tables: one row per comparison, and one per unit of each. Page, csv and LaTeX show these numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .comparisons import Comparison
from .question import Question

NUMBERS = (  # effect and interval come before p
    "before", "after", "gain", "low", "high", "n", "gained", "lost", "tied", "left_out", "probability_of_improvement",
    "p", "p_holm", "n_tested", "smallest_p", "n_seeds", "seed_sd",
)  # fmt: skip


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per comparison: what it compares, `NUMBERS` as shown, its setting's columns. An empty cell is unknown."""
    names = list(dict.fromkeys(name for one in comparisons for name in one.setting if name not in NUMBERS))
    rows = [
        {"setting": one.label, "against": one.against, "kind": one.kind}
        | {name: one.mean if name == "gain" else getattr(one, name) for name in NUMBERS}
        | {name: one.setting.get(name) for name in names}
        for one in comparisons
    ]
    return pd.DataFrame(rows, columns=["setting", "against", "kind", *NUMBERS, *names])


def gains_table(comparisons: Sequence[Comparison], question: Question | None) -> pd.DataFrame:
    """One row per unit of each comparison, as shown; with `share_of_room` if the measure has a best value."""
    unit = question.unit if question else "unit"
    best = question.measure.best if question else None
    columns = ["setting", "against", unit, "before", "after", "gain", *(["share_of_room"] if best is not None else [])]
    parts = []
    for one in comparisons:
        rows = one.units if best is None else one.units.assign(share_of_room=share_of_room(one, best))
        parts.append(rows.rename_axis(unit).reset_index().assign(setting=one.label, against=one.against))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def share_of_room(one: Comparison, best: float) -> pd.Series:
    """Each unit's gain as a share of the room left, from its value before to the best possible one. NaN if no room is
    left, or if the comparison is not with the base: a setting starts from nothing else."""
    room = (best - one.units["before"]).abs()
    return one.gains / room.where((room > 0) & (one.kind == "base"), np.nan)
