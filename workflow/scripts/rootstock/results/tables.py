"""Comparisons as tables: a row a comparison, and a row a unit of each. The page, csv and LaTeX all show these numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .comparisons import Comparison
from .question import Question

NUMBERS = (  # effect and interval stand before chance
    "before", "after", "gain", "low", "high", "n", "gained", "lost", "tied", "left_out", "probability_of_improvement",
    "p", "p_holm", "n_tested", "smallest_p", "n_seeds", "seed_sd",
)  # fmt: skip


def comparison_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row a comparison: what it is, `NUMBERS` as shown, and the columns of its setting. Empty cells cannot be told."""
    names = list(dict.fromkeys(name for one in comparisons for name in one.setting if name not in NUMBERS))
    rows = [
        {"setting": one.label, "against": one.against, "kind": one.kind}
        | {name: one.mean if name == "gain" else getattr(one, name) for name in NUMBERS}
        | {name: one.setting.get(name) for name in names}
        for one in comparisons
    ]
    return pd.DataFrame(rows, columns=["setting", "against", "kind", *NUMBERS, *names])


def gains_table(comparisons: Sequence[Comparison], question: Question | None) -> pd.DataFrame:
    """A row a unit of a comparison, as shown; with `share_of_room` where the measure has a best value."""
    unit = question.unit if question else "unit"
    best = question.measure.best if question else None
    columns = ["setting", "against", unit, "before", "after", "gain", *(["share_of_room"] if best is not None else [])]
    parts = []
    for one in comparisons:
        rows = one.units if best is None else one.units.assign(share_of_room=share_of_room(one, best))
        parts.append(rows.rename_axis(unit).reset_index().assign(setting=one.label, against=one.against))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def share_of_room(one: Comparison, best: float) -> pd.Series:
    """Each unit's gain as a share of what there was to gain, from before to the best that can be had; NaN where that is
    nothing, and against anything but the base, which a setting does not start from."""
    room = (best - one.units["before"]).abs()
    return one.gains / room.where((room > 0) & (one.kind == "base"), np.nan)
