"""The readable part of an experiment's folder: a template of the study, a job's own name, or the task's default."""

import re
import string
from collections.abc import Callable
from typing import Any

from .fields import readable
from .problems import Problems, nearest

LARGE = re.compile(r"\d{3}|\{")  # in a format spec: a width of three digits, or one taken from another value


def readable_name(
    template: str | None, settings: dict[str, Any], default: Callable[[dict[str, Any]], str], problems: Problems
) -> str:
    """A safe folder name; a template that cannot be filled in is reported."""
    if template is None:
        return readable(default(settings))
    try:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
        if any(LARGE.search(form or "") for _, _, form, _ in parts):
            raise ValueError  # it could ask for a million characters; a name has at most 80
        fields = [str(name) for _, name, _, _ in parts]
        if unknown := [name for name in fields if name not in settings]:
            for name in unknown:
                problems.add("prefix", template, f"{{{name}}} unknown; {nearest(name, settings)}")
            return "setting"
        values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in settings.items()}
        return readable(template.format(**{name: values[name] for name in fields}))
    except (ValueError, IndexError, AttributeError, KeyError):
        problems.add("prefix", template, "is not a template; write text and {setting}, with a width below 100")
        return "setting"
