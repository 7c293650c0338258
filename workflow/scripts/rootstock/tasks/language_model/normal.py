"""The normal form of a language model's spec: different spellings of one training get the same. Light: no torch."""

from typing import Any

from ...study.spec import renewed
from .settings import TARGETS, Training
from .specs import BaseSpec, FinetuneSpec

MEASURED = ("precision", "mask_documents")  # these count even if a model is only measured


def normalised(spec: BaseSpec | FinetuneSpec) -> BaseSpec | FinetuneSpec:
    """The spec without what changes no weight.

    `wsd` that decays over all steps looks like `linear` but is another training: its share is one of all steps, warm-up
    included, so the two rates differ by a factor of (steps - warm-up) / steps.
    """
    if isinstance(spec, FinetuneSpec) and not spec.trains:
        return spec
    if not spec.max_steps:  # a pretrained model as it is
        kept = ("max_steps", *MEASURED)
        return renewed(spec, **{name: f.default for name, f in Training.model_fields.items() if name not in kept})
    changes: dict[str, Any] = {}
    if spec.resumed_from is None and spec.eval_every > spec.max_steps:
        changes["eval_every"] = spec.max_steps  # there is one evaluation, at the end
    if spec.early_stopping_patience is not None and spec.early_stopping_patience >= spec.course().epochs:
        changes["early_stopping_patience"] = None  # the last evaluation comes first
    if isinstance(spec, FinetuneSpec) and spec.targets is not None:
        changes["targets"] = tuple(name for name in TARGETS if name in spec.targets)
    return renewed(spec, **changes)
