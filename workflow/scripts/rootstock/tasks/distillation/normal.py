"""The normal form of a distillation spec: different spellings of one training get the same. Light: no torch."""

from typing import Any

from ...study.spec import renewed
from .packaged import MODELS
from .settings import Contrast
from .specs import BaseSpec, FinetuneSpec

OF_CONTRAST = ("temperature", "num_negatives", "in_batch_negatives")  # used by InfoNCE alone


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The spec with every value that changes no weight removed or set to its default."""
    changes: dict[str, Any] = {}
    if isinstance(spec, BaseSpec):
        packaged = MODELS.get(spec.student.model.name or "")
        if packaged and packaged.dropout == spec.student.dropout:  # the student has this rate anyway
            changes["student"] = spec.student.model_copy(update={"dropout": None})
    elif spec.trains and not spec.infonce_weight:
        changes |= {name: Contrast.model_fields[name].default for name in OF_CONTRAST} | {"teacher_negatives": None}
    return renewed(spec, **changes)
