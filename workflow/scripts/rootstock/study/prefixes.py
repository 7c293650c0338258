"""The readable part of an experiment's folder: a template of the study, a job's own name, or the task's default."""

import string
from collections.abc import Callable
from typing import Any

from .fields import readable
from .problems import Problems, nearest


def readable_name(
    template: str | None, settings: dict[str, Any], default: Callable[[dict[str, Any]], str], problems: Problems
) -> str:
    """A safe folder name; a template that cannot be filled in is reported."""
    if template is None:
        return readable(default(settings))
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        for name in fields:
            if name not in settings:
                problems.add("prefix", template, f"{{{name}}} unknown; {nearest(name, settings)}")
        values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in settings.items()}
        return readable(template.format(**{name: values.get(name, "") for name in fields}))
    except (ValueError, IndexError, AttributeError, KeyError):
        problems.add("prefix", template, "is not a template; write text and {setting}")
        return "setting"
