"""Classification metrics from counts, so that they add up exactly over batches and processes."""

from typing import Any

import torch
from torch import Tensor


def confusion_counts(predicted: Tensor, actual: Tensor, n_classes: int) -> Tensor:
    """Counts [actual, predicted], int64 [n_classes, n_classes], from class indices [N]."""
    return torch.bincount(actual * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def classification_metrics(counts: Tensor, loss_sum: float) -> dict[str, Any]:
    """Loss, accuracy, macro precision, recall and F1, per class and raw counts.

    Macro means run over classes that occur or were predicted, as scikit-learn's do; a class that was never
    predicted has precision 0.
    """
    counts = counts.double()
    hits, actual, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    precision = torch.where(predicted > 0, hits / predicted.clamp(min=1), 0.0)
    recall = torch.where(actual > 0, hits / actual.clamp(min=1), 0.0)
    f1 = torch.where(actual + predicted > 0, 2 * hits / (actual + predicted).clamp(min=1), 0.0)
    seen = (actual + predicted) > 0
    total = int(actual.sum())
    return {
        "n": total,
        "loss": loss_sum / max(total, 1),
        "accuracy": float(hits.sum() / max(total, 1)),
        "f1": float(f1[seen].mean()) if total else 0.0,
        "precision": float(precision[seen].mean()) if total else 0.0,
        "recall": float(recall[seen].mean()) if total else 0.0,
        "per_class": {
            str(k): {
                "n": int(actual[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
            }
            for k in range(len(hits))
        },
        "confusion": counts.long().tolist(),
    }
