"""Whether a trained model was made by the code that is here now: other code may make something else of its weights. Light: no torch."""

from collections.abc import Mapping
from typing import Any

from ..study.problems import Refusal
from .reading import spec_of
from .registry import TASKS

ANEW = "--config retrain=true or base_models.py forget {name} trains it anew"


def other_code(content: Mapping[str, Any]) -> str | None:
    """Why a model, from the content of its file or of its metadata, is not of the code that is here now; None where it is.

    What was made before code was recorded counts as made by this one.
    """
    if content.get("code") is None:
        return None
    spec, base = spec_of(content.get("spec") or {}), content.get("base_spec")
    task, base = TASKS.of_file(spec.task), base and spec_of(base)
    found = task.code_of(spec, base)
    if content["code"] == found:
        return None
    files = ", ".join(map(str, task.built_by(spec, base)))
    return f"made by other code ({content['code']}) than is here now ({found}: {files})"


def require_code(content: Mapping[str, Any], where: object) -> None:
    """`Refusal` where a model was made by other code; `where` names its file."""
    if reason := other_code(content):
        raise Refusal(f"{where}: {reason}; {ANEW.format(name=content.get('hash'))}")
