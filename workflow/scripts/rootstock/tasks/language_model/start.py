"""The pretrained model that a trunk starts from, and settings that must fit it. Light: no torch."""

from typing import Any

from ...study.fingerprints import Fingerprints
from ...study.problems import Problems
from ..folders import config_of, folder_of
from .llama import shape_of
from .llama_folder import TOKENIZER, faults_of, fingerprint
from .settings import Base, Model, Shape
from .specs import Pretrained

KEY = "base.start_from"


def model_of(base: Base) -> Model | None:
    """The shape of a trunk: that of its settings, or of the model it starts from; None if that model has a fault."""
    if base.start_from is None:
        return Model(**_shape_settings(base))
    folder = folder_of(base.start_from)
    if faults_of(folder, base.context_length):
        return None
    return shape_of(config_of(folder) or {}, base.context_length)


def check_start(base: Base, problems: Problems) -> None:
    """Report what keeps `base.start_from` from being continued, and settings that differ from that model's shape."""
    if base.start_from is None:
        if not base.max_steps:
            problems.add(
                "base.max_steps", 0, "trains nothing; start from a pretrained model, or give a number of at least 1"
            )
        return
    for fault in faults_of(folder_of(base.start_from), base.context_length):
        problems.add(KEY, base.start_from, fault)
    found = model_of(base)
    for name, value in _shape_settings(base).items() if found else ():
        own, default = getattr(found, name), Shape.model_fields[name].default
        if value not in (own, default):  # the default may not have been given at all
            problems.add(f"base.{name}", value, f"is not that of {base.start_from}, which has {own}; remove it")


def pretrained(
    base: Base, given: str | None, tokenizer: str | None, fingerprints: Fingerprints, problems: Problems
) -> Pretrained | None:
    """The identity of the model, known to be without fault, that a trunk starts from; None if its weights are new.

    Report a tokenizer of the text that is not that model's: `given` is its path, `tokenizer` its fingerprint.
    """
    if base.start_from is None:
        return None
    folder = folder_of(base.start_from)
    if tokenizer != fingerprints.of([folder / TOKENIZER]):
        problems.add("data.tokenizer", given, f"is not that of base.start_from; give {base.start_from}")
    return Pretrained(content=fingerprint(folder, fingerprints), folder=base.start_from)


def _shape_settings(base: Base) -> dict[str, Any]:
    return {name: getattr(base, name) for name in Shape.model_fields}
