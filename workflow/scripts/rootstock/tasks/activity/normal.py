"""Spellings of one training of activity recognition, and the form that names it. Light: no torch."""

from typing import Any

from ...study.spec import renewed
from .settings import AUGMENTATION_DEFAULTS, GRADIENT_FREE
from .specs import BaseSpec, FinetuneSpec

NOTHING = {"jitter_std": 0.0, "magnitude_range": (1.0, 1.0), "time_warp": 0.0, "rotation_std": 0.0}  # changes no window


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The form of a spec in which what changes no weight is absent."""
    if isinstance(spec, FinetuneSpec) and not spec.trains:
        return spec
    changes: dict[str, Any] = {}
    if isinstance(spec, FinetuneSpec) and spec.mode in GRADIENT_FREE:
        return renewed(spec, seed=0) if spec.target_data_pct == 1 else spec  # all windows: nothing is drawn
    if spec.pos_weight == 1:  # as all other windows weigh
        changes["pos_weight"] = None
    patience = spec.early_stopping_patience
    if patience is not None and (spec.trains_on_all or patience >= spec.max_epochs):
        changes["early_stopping_patience"] = None  # the last epoch comes first
    return renewed(spec, **changes | _augmentation(spec))


def _augmentation(spec: BaseSpec | FinetuneSpec) -> dict[str, Any]:
    if not spec.use_augmentation:
        return {}
    changes_windows = spec.aug_prob and any(getattr(spec, name) != value for name, value in NOTHING.items())
    if changes_windows:
        return {}
    if spec.mixup_alpha:  # mixed, but not changed before that
        return NOTHING | {"aug_prob": 0.0}
    return {"use_augmentation": False} | dict.fromkeys(AUGMENTATION_DEFAULTS)
