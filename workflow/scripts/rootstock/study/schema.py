"""The JSON schema of a study, for editors: generated from the settings and committed; a test compares the two."""

from typing import Any

from .fields import Section
from .general import GENERAL
from .run import Run
from .task import Task
from .tasks import Tasks
from .validate import is_list_field, json_schema


def study_schema(tasks: Tasks) -> dict[str, Any]:
    """One schema for all tasks; the task of a study decides which keys it may have."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rootstock study",
        "type": "object",
        "properties": {"task": _task(tasks)},
        "allOf": [
            {
                "if": {"properties": {"task": {"const": name}}}
                | ({} if name == tasks.names[0] else {"required": ["task"]}),
                "then": _task_schema(tasks.find(name)),
            }
            for name in tasks.names
        ],
    }


def _task(tasks: Tasks) -> dict[str, Any]:
    choice = [{"enum": list(tasks.names)}, {"type": "string", "pattern": r"^[\w.]+:\w+$"}]
    about = "what is trained; a task of your own as package.module:Class"
    return {"anyOf": choice, "default": tasks.names[0], "description": about}


def _task_schema(task: Task) -> dict[str, Any]:
    job_list = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}]}
    shapes: dict[str, dict[str, Any]] = {
        "data": _section(task.data_section, swept=True),
        "base": _grids(task.base_section),
        "finetune": _grids(task.finetune_section),
        "jobs": job_list,
        "run": _section(Run, swept=False),
        "train_bases": {"type": "boolean"},
        "retrain": {"type": "boolean"},
    }
    general = {key: shapes.get(key, {"type": "string"}) | {"description": about} for key, (about, _) in GENERAL.items()}
    scope = _section(task.scope_section, swept=False)["properties"]
    return {"properties": general | scope, "additionalProperties": False}


def _grids(section: type[Section]) -> dict[str, Any]:
    grid = _section(section, swept=True)
    return {"anyOf": [grid, {"type": "array", "items": grid, "minItems": 1}]}


def _section(section: type[Section], swept: bool) -> dict[str, Any]:
    properties = {}
    for name, field in section.model_fields.items():
        one = json_schema(section, name)
        entry = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if swept else one
        if swept and is_list_field(section, name):
            entry = {"anyOf": [one, {"type": "array", "items": one}]}
        properties[name] = entry | {"description": field.description or ""}
        if not field.is_required() and field.default is not None:
            properties[name]["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
