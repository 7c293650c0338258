"""The best epoch, and when to stop looking for a better one."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class EarlyStopping:
    """Remembers the best epoch. Only a strictly better value counts; training stops after `patience` epochs without
    one."""

    metric: str  # "loss" (lower is better), "f1" (higher is better) or "last" (the latest is best)
    patience: int | None
    best_value: float | None = None
    best_epoch: int = 0
    best_state: dict[str, Any] = field(default_factory=dict)
    best_measured: dict[str, Any] = field(
        default_factory=dict
    )  # of the best epoch; empty if an earlier process did not keep it

    def update(self, epoch: int, value: float) -> bool:
        """Note an epoch's value. Return whether it is the best so far; NaN never is."""
        sign = 1.0 if self.metric == "loss" else -1.0
        if self.metric != "last" and self.best_value is not None and not sign * value < sign * self.best_value:
            return False
        if value != value:
            return False
        self.best_value, self.best_epoch = value, epoch
        return True

    def is_over(self, epoch: int) -> bool:
        return self.patience is not None and epoch - self.best_epoch >= self.patience
