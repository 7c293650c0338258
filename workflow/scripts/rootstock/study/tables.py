"""The tables of keys in config/README.md: generated from the settings and committed; a test compares the two."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from .fields import Section
from .general import GENERAL
from .run import Run
from .task import Task
from .tasks import Tasks
from .validate import json_schema

MARKS = re.compile(r"(<!-- keys: (\w+)(?: (\w+))? -->\n).*?(\n<!-- end of keys -->)", re.S)
DEFAULT = re.compile(r"\s*\(default: (.*)\)$")
HEAD = ("| key | what | takes | default |", "|---|---|---|---|")
WORDS = {"string": "text", "boolean": "true or false", "object": "keys and values", "null": "null", "array": "list"}


def with_tables(text: str, tasks: Tasks) -> str:
    """Fill in the tables between the marks of a text: `<!-- keys: general -->`, `run`, or a task and a section."""
    return MARKS.sub(lambda found: found[1] + _table(found[2], found[3], tasks) + found[4], text)


def _table(what: str, section: str | None, tasks: Tasks) -> str:
    if what == "general":
        return "\n".join(
            [*HEAD, *(f"| `{key}` | {about} | | {default} |" for key, (about, default) in GENERAL.items())]
        )
    if what == "run":
        return _rows(Run, Run.model_fields)
    task = tasks.find(what)
    tables: dict[str | None, Callable[[], str]] = {
        "scope": lambda: _rows(task.scope_section, task.scope_section.model_fields),
        "data": lambda: _rows(task.data_section, task.data_section.model_fields),
        "base": lambda: _rows(task.base_section, task.base_section.model_fields),
        "finetune": lambda: _rows(task.finetune_section, _own(task)),
    }
    return tables[section]()


def _own(task: Task) -> list[str]:
    """The fields that a fine-tune does not simply inherit from its base."""
    fields, base = task.finetune_section.model_fields, task.base_section.model_fields
    return [name for name, field in fields.items() if name not in base or field.default is not None]


def _rows(section: type[Section], names: Iterable[str]) -> str:
    return "\n".join([*HEAD, *(_row(section, name) for name in names)])


def _row(section: type[Section], name: str) -> str:
    field = section.model_fields[name]
    about = field.description or ""
    told = DEFAULT.search(about)
    default = told[1] if told else "" if field.default is None else f"`{_plain(field.default)}`"
    takes = _takes(json_schema(section, name))
    return f"| `{name}` | {_cell(DEFAULT.sub('', about))} | {_cell(takes)} | {_cell(default)} |"


def _takes(schema: dict[str, Any]) -> str:
    """The values that a field takes, in a few words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_takes(one) for one in schema["anyOf"] if one.get("type") != "null"))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{word}`" for word in schema.get("enum", [schema.get("const")]))
    if schema.get("type") in ("integer", "number"):
        return ("whole number" if schema["type"] == "integer" else "number") + _bounds(schema)
    if schema.get("type") == "array" and schema.get("items"):
        return f"list of {_takes(schema['items'])}"
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])} × {_takes(schema['prefixItems'][0])}"
    return WORDS.get(schema.get("type", ""), "")


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f" {sign} {schema[key]:g}" for key, sign in signs.items() if key in schema)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
