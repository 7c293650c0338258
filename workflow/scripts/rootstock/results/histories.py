"""How trainings went, epoch by epoch, as they published it. A missing or unreadable file gives an empty history."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..machine.private import read_json, read_small
from ..study import paths
from ..study.plan import Experiment
from ..study.problems import Refusal

UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, Refusal)


@dataclass(frozen=True)
class History:
    """One row per epoch, and the epoch whose weights were kept; 0 if there was none."""

    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)  # epoch, train_loss, val_loss and what else was measured
    kept: int = 0

    def __len__(self) -> int:
        return len(self.epochs)


def history_of_experiment(experiment: Experiment) -> History:
    """The history in a fine-tune's published folder."""
    folder = Path(experiment.path)
    try:
        return _history(json.loads(read_small(folder / "losses.json")), read_json(folder / "metrics.json"))
    except UNREADABLE:
        return History()


def history_of_base(name: str) -> History:
    """The history of a published base model, found by its hash."""
    try:
        metadata = read_json(Path(paths.BASE_METADATA.format(hash=name)))
        return _history(metadata["history"], metadata)
    except UNREADABLE:
        return History()


def _history(rows: list[dict[str, Any]], about: dict[str, Any]) -> History:
    epochs = pd.DataFrame(rows)
    return History(epochs.astype(float).astype({"epoch": int}), int(about["best_epoch"])) if len(epochs) else History()
