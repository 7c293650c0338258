"""Spellings of one training of distillation, and the form that names it. Light: no torch."""

from ...study.spec import renewed
from .settings import Contrast
from .specs import BaseSpec, FinetuneSpec

OF_CONTRAST = ("temperature", "num_negatives", "in_batch_negatives")  # what only InfoNCE looks at


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The form of a spec in which what changes no weight is at its default."""
    if isinstance(spec, BaseSpec) or not spec.trains or spec.infonce_weight:
        return spec
    return renewed(spec, **{name: Contrast.model_fields[name].default for name in OF_CONTRAST})
