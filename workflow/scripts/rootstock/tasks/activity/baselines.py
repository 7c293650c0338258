"""Classical models on simple features of the same windows, so that a reader sees what the networks are worth."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ...engine.metrics import classification_metrics, confusion_counts
from .adapting import shown
from .amount import take_shots
from .data import Windows, join, read_people, take_share
from .folder import SPLITS
from .specs import BaselineSpec
from .train import parts_of


def measure_baseline(spec: BaselineSpec, folder: str) -> list[dict[str, Any]]:
    """One row per training set and what it is measured on: the others alone on all windows of the target and on its
    test set; the others with an amount of the target's windows, and that amount alone, on its test set.
    Classical models need no early stopping, so they learn from all parts of the others, including the test set.
    """
    others = Table.of(read_people(folder, spec.participants, SPLITS))
    train, val, test = parts_of(spec.target, spec.adapt_on, partial(read_people, folder)).values()
    everything, tested = Table.of(join(train, val, test)), Table.of(test)
    base = _fit(spec, others)
    rows = [_row(spec, "others", {}, base, "all", everything), _row(spec, "others", {}, base, "test", tested)]
    amounts = [({"target_data_pct": share}, take_share(train, share, spec.seed)) for share in spec.fractions]
    amounts += [({"target_shots": shots}, take_shots(train, shots, spec.seed)) for shots in spec.shots]
    for amount, windows in amounts:
        own = Table.of(windows)
        rows.append(_row(spec, "others + target", amount, _fit(spec, others + own), "test", tested))
        rows.append(_row(spec, "target only", amount, _fit(spec, own), "test", tested))
    return rows


@dataclass(frozen=True)
class Table:
    """Features [N, F] of windows and their classes [N], computed once for all models that learn from them."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, windows: Windows) -> Self:
        return cls(features(windows.x.all()), windows.y.long().numpy())

    def __add__(self, other: Self) -> Self:
        return type(self)(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]))


def features(windows: torch.Tensor) -> np.ndarray:
    """Simple features of windows [N, C, T]: moments, quantiles, slopes, spectrum of each channel, and correlations."""
    x = windows.double().numpy()
    step = np.diff(x, axis=2)
    spectrum = np.abs(np.fft.rfft(x - x.mean(2, keepdims=True), axis=2))[:, :, 1:25]  # up to 6 Hz in windows of 4 s
    parts = [x.mean(2), x.std(2), x.min(2), x.max(2), np.abs(step).mean(2), step.std(2)]
    parts += list(np.quantile(x, [0.1, 0.25, 0.5, 0.75, 0.9], axis=2))
    parts += [(x**2).mean(2), np.log1p(spectrum).reshape(len(x), -1), _correlations(x)]
    return np.nan_to_num(np.concatenate(parts, axis=1))


def _correlations(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(2, keepdims=True)
    norm = np.sqrt((centred**2).sum(2)) + 1e-12
    products = np.einsum("nct,ndt->ncd", centred, centred) / (norm[:, :, None] * norm[:, None, :])
    return products[:, *np.triu_indices(x.shape[1], k=1)]


def _fit(spec: BaselineSpec, table: Table) -> ClassifierMixin | Pipeline | int:
    if len(np.unique(table.y)) == 1:
        return int(table.y[0])  # a share so small that it holds one class: predict it
    if spec.method == "svc":
        model = make_pipeline(StandardScaler(), SVC(C=10.0))
    else:
        model = ExtraTreesClassifier(n_estimators=300, random_state=spec.seed % 2**32, n_jobs=1)
    return model.fit(table.x, table.y)


def _row(
    spec: BaselineSpec, learned_on: str, amount: dict[str, Any], model: Any, measured_on: str, table: Table
) -> dict:
    predicted = np.full_like(table.y, model) if isinstance(model, int) else model.predict(table.x)
    predicted, actual = torch.from_numpy(predicted), torch.from_numpy(table.y)
    n_classes = int(max(actual.max(), predicted.max())) + 1
    metrics = classification_metrics(confusion_counts(predicted, actual, n_classes), 0.0)
    return {
        "method": spec.method,
        "learned_on": learned_on,
        "others": len(spec.participants),
        "target_data_pct": None,
        "target_shots": None,
        **amount,
        "measured_on": measured_on,
        "target": spec.target,
        "adapt_on": shown(spec.adapt_on, spec.data) if spec.adapt_on else None,
        "n": metrics["n"],
        "accuracy": metrics["accuracy"],
        "f1": metrics["f1"],
    }
