"""What a job is asked to train, and where its inputs lie."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..machine.private import json_object
from ..store.objects import StoredObject, stored
from ..study.fields import Section
from ..study.identity import canonical, digest
from ..study.problems import Refusal, StudyError
from ..study.run import Run
from ..study.spec import BaseSpec, FinetuneSpec, TrainingSpec
from ..study.task import Task
from ..tasks.registry import TASKS
from .records import JobRecord

KINDS = {  # of a spec: the attribute of its task that holds its type
    "base": "base_spec_type",
    "fine-tune": "finetune_spec_type",
    "prepared": "prepared_spec_type",
    "baseline": "baseline_spec_type",
}


@dataclass(frozen=True)
class Job:
    """A spec and where its inputs lie; nothing here but the spec changes a weight."""

    spec: BaseSpec | FinetuneSpec
    data: str
    store: str
    start_model: str | None = None  # the published model that the spec starts from; None: under its own name
    continues: str | None = None  # hash of a shorter training that this one may go on from
    checkpoint: str | None = None  # a file to go on from, of this training or of the one that the spec names
    expect: dict[str, Any] = field(default_factory=dict)  # of the data, beyond its identity
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

    def about(self) -> dict[str, Any]:
        """What a checkpoint says of its training, so that it can be resumed from the file alone."""
        spec = json.loads(canonical(self.spec))
        run = self.run.about()
        return {"spec": spec, "hash": self.hash, "data": self.data, "run": run, "asked_by": self.asked_by}


def spec_of(content: dict[str, Any]) -> BaseSpec | FinetuneSpec:
    """The spec of a model or checkpoint from its plain form: a fine-tune's has a mode. `Refusal` where it is none."""
    try:
        kind = "fine-tune" if "mode" in content else "base"
        return read_spec(json.dumps(content), kind, TASKS.of_file(content.get("task")).name)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Refusal(
            f"spec: cannot be read ({str(error)[:200]}); the file is damaged or not one of Rootstock"
        ) from None


def read_spec(text: str, kind: str, task: str | None = None) -> Any:
    """A spec from its JSON; `kind` is one of `KINDS`. A spec that does not name its task needs `task`."""
    what = f"spec of a {kind}"
    try:
        content = json_object(text)
        found = TASKS.find(task or content["task"])
        section: type[Section] | None = getattr(found, KINDS[kind])
        if section is None:
            raise ValueError(f"task {task or content['task']} has no such spec")
        what = section.__name__
        spec = section.model_validate(content)
        return found.normalised(spec) if isinstance(spec, TrainingSpec) else spec
    except StudyError as error:
        raise Refusal(f"--spec: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"--spec: not a {what}: {' '.join(str(error).split())[:300]}") from None
