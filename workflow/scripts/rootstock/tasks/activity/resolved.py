"""Training settings of a base model and of a fine-tune, defaults filled in. Light: no torch."""

from typing import Any

from ...study.fields import inherited
from .settings import AUGMENTATION_DEFAULTS, Base, Data, Finetune, Training


def training_of(wish: Training, data: Data) -> dict[str, Any]:
    """Training fields with the augmentation resolved: defaults filled in if it is used, None if it is not."""
    values = {name: getattr(wish, name) for name in Training.model_fields}
    own = {} if data.path is None else {"rotation_std": 0.0}  # a folder's axes are unknown
    for name, default in (AUGMENTATION_DEFAULTS | own).items():
        given = values[name] if values[name] is not None else default
        values[name] = given if wish.use_augmentation else None
    return values


def of_finetune(base: Base, wish: Finetune) -> Training:
    """The fine-tune's own training settings, and the base's where it has none."""
    patience = "early_stopping_patience_target"
    return Training(**inherited(Training, base, wish, seed="seed_finetune", early_stopping_patience=patience))
