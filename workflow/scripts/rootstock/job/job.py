"""What a job is asked to train, and where its inputs lie."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..store.objects import StoredObject, stored
from ..study.identity import digest, with_whereabouts
from ..study.run import Run
from ..study.spec import BaseSpec, FinetuneSpec
from ..study.task import Task
from ..tasks.registry import TASKS
from .records import JobRecord


@dataclass(frozen=True)
class Job:
    """A spec and where its inputs lie; nothing here but the spec changes a weight."""

    spec: BaseSpec | FinetuneSpec
    data: str
    store: str
    start_model: str | None = None  # the published model that the spec starts from; None: under its own name
    continues: str | None = None  # hash of a shorter training that this one may continue
    checkpoint: str | None = None  # a file to resume from, of this training or of the one that the spec names
    expect: dict[str, Any] = field(default_factory=dict)  # facts about the data, beyond its identity
    retrain: bool = False  # whether to train anew what other code made
    run: Run = field(default_factory=Run)
    asked_by: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    record: JobRecord | None = None

    @cached_property
    def hash(self) -> str:
        return digest(self.spec)

    @property
    def task(self) -> Task:
        return TASKS.find(self.spec.task)

    @property
    def kept(self) -> StoredObject:
        """Its place in the store."""
        return stored(self.store, self.hash, self.run.trust)

    def about(self, base: BaseSpec | None) -> dict[str, Any]:
        """What a checkpoint records about its training, so that the file alone is enough to resume. `base` is the spec of a
        fine-tune's base model."""
        specs = {"spec": self.spec} | ({"base_spec": base} if base else {})
        plain = {name: json.loads(with_whereabouts(spec)) for name, spec in specs.items()}
        named = plain | {"code": self.task.code_of(self.spec, base), "hash": self.hash}
        return named | {"data": self.data, "run": self.run.about(), "asked_by": self.asked_by}
