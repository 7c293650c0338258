"""Whether the present code made a trained model: other code may compute something else from it. Light: no torch."""

from collections.abc import Mapping
from typing import Any

from ..study.problems import Refusal, StudyError
from ..study.task import Task
from .reading import spec_of
from .registry import TASKS

ANEW_NAMED = (
    "put that code back, or run its study again: with the code of now it is another training, under a name of its own"
)
ANEW = "--config retrain=true or base_models.py forget {name} trains it anew"


def other_code(content: Mapping[str, Any]) -> str | None:
    """Why the present code did not make a model, from the content of its file or metadata; None if it did.

    A model from before code was recorded counts as made by the present code.
    """
    if content.get("code") is None:
        return None
    task, spec, base = _training_of(content)
    found = task.code_of(spec, base)
    if content["code"] == found:
        return None
    files = ", ".join(map(str, task.built_by(spec, base)))
    return f"made by other code ({content['code']}) than is here now ({found}: {files})"


def require_code(content: Mapping[str, Any], where: object) -> None:
    """Raise `Refusal` if other code made a model, or if its code is not found; `where` names the model's file."""
    try:
        if (reason := other_code(content)) is None:
            return
        fix = ANEW_NAMED if _is_named_by_code(content) else ANEW.format(name=content.get("hash"))
    except StudyError:
        raise
    except Refusal as refusal:
        raise Refusal(f"{where}: {refusal}") from None
    raise Refusal(f"{where}: {reason}; {fix}")


def _is_named_by_code(content: Mapping[str, Any]) -> bool:
    """Whether the present code would give the training another name."""
    task, spec, base = _training_of(content)
    return task.is_renamed_by_code(spec, base)


def _training_of(content: Mapping[str, Any]) -> tuple[Task, Any, Any]:
    """A model's task, its spec and the spec of its base model."""
    spec, base = spec_of(content.get("spec") or {}), content.get("base_spec")
    return TASKS.of_file(spec.task), spec, base and spec_of(base)
