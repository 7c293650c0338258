"""Spellings of one training of distillation, and the form that names it. Light: no torch."""

from typing import Any

from ...study.spec import renewed
from .packaged import MODELS
from .settings import Contrast
from .specs import BaseSpec, FinetuneSpec

OF_CONTRAST = ("temperature", "num_negatives", "in_batch_negatives")  # what only InfoNCE looks at


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The form of a spec in which what changes no weight is absent or at its default."""
    changes: dict[str, Any] = {}
    if isinstance(spec, BaseSpec):
        packaged = MODELS.get(spec.student.model.name or "")
        if packaged and packaged.dropout == spec.student.dropout:  # as the student has it anyway
            changes["student"] = spec.student.model_copy(update={"dropout": None})
    elif spec.trains and not spec.infonce_weight:
        changes |= {name: Contrast.model_fields[name].default for name in OF_CONTRAST} | {"teacher_negatives": None}
    return renewed(spec, **changes)
