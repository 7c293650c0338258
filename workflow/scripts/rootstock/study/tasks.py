"""The tasks that a study may name, as far as `study` knows of them."""

from typing import Any, Protocol

from .task import Task


class Tasks(Protocol):
    """Every task that a study may name. `study` knows tasks only by this."""

    names: tuple[str, ...]  # the first is meant where a study names none

    def find(self, name: Any) -> Task:
        """The task of that name; `StudyError` in one line where there is none, or where it is not a task."""
        ...
