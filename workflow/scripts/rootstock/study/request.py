"""One training as it was asked for, and what a task makes of it: the words that plan and tasks share."""

from dataclasses import dataclass, field
from typing import Any

from .fields import Section


@dataclass(frozen=True)
class Unit:
    """What one fine-tune is about: a folder name and the values that it stands for, such as fold and target."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Validated settings of one base training and, unless `finetune` is None, of one fine-tune on it."""

    key: str
    scope: Section
    data: Section
    base: Section
    finetune: Section | None
    unit: Unit
    prefix: str | None = None


@dataclass(frozen=True)
class Artefact:
    """Something prepared once and shared: `prepared/<name>/`, complete when its manifest exists."""

    name: str
    spec: Section
