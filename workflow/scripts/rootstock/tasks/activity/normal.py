"""The form of a spec of activity recognition that names its training, however it is spelt. Light: no torch."""

from typing import Any

from ...study.spec import renewed
from .settings import AUGMENTATION_DEFAULTS, GRADIENT_FREE
from .specs import BaseSpec, FinetuneSpec

NOTHING = {"jitter_std": 0.0, "magnitude_range": (1.0, 1.0), "time_warp": 0.0, "rotation_std": 0.0}  # changes no window


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The form of a spec that leaves out what changes no weight."""
    if isinstance(spec, FinetuneSpec) and not spec.trains:
        return spec
    changes: dict[str, Any] = {}
    if isinstance(spec, FinetuneSpec) and spec.mode in GRADIENT_FREE:
        return renewed(spec, seed=0) if spec.target_data_pct == 1 else spec  # all windows: nothing is drawn
    if spec.pos_weight == 1:  # the weight of all other windows
        changes["pos_weight"] = None
    patience = spec.early_stopping_patience
    if patience is not None and (spec.trains_on_all or patience >= spec.max_epochs):
        changes["early_stopping_patience"] = None  # it cannot end the training
    return renewed(spec, **changes | _augmentation(spec))


def _augmentation(spec: BaseSpec | FinetuneSpec) -> dict[str, Any]:
    if not spec.use_augmentation:
        return {}
    changes_windows = spec.aug_prob and any(getattr(spec, name) != value for name, value in NOTHING.items())
    if changes_windows:
        return {}
    if spec.mixup_alpha:  # windows are mixed, but not changed before
        return NOTHING | {"aug_prob": 0.0}
    return {"use_augmentation": False} | dict.fromkeys(AUGMENTATION_DEFAULTS)
