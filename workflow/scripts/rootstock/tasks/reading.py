"""A spec of any task from its plain form, as commands and model files have it. Light: no torch."""

import json
from typing import Any

from ..machine.private import json_object
from ..study.fields import Section
from ..study.problems import Refusal, StudyError
from ..study.spec import BaseSpec, FinetuneSpec, TrainingSpec
from .registry import TASKS

KINDS = {  # each kind of spec, with the attribute of its task that holds its type
    "base": "base_spec_type",
    "fine-tune": "finetune_spec_type",
    "prepared": "prepared_spec_type",
    "baseline": "baseline_spec_type",
}


def spec_of(content: dict[str, Any]) -> BaseSpec | FinetuneSpec:
    """The spec of a model or checkpoint from its plain form; a fine-tune's has a mode. Raise `Refusal` if invalid."""
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
