"""The tasks that a study may name, as far as `study` knows of them."""

from typing import Any, Protocol

from .task import Task


class Tasks(Protocol):
    """Every task that a study may name. `study` knows tasks only through this protocol."""

    names: tuple[str, ...]  # the first is the default

    def find(self, name: Any) -> Task:
        """Return the task of that name. Raise `StudyError`, in one line, if there is none or it is not a task."""
        ...
