"""What a task need not say about itself: its planner imports from here what does not apply to it. Light: no torch."""

from typing import Any

from ..study.fields import Section
from ..study.fingerprints import Fingerprints
from ..study.problems import Problems
from ..study.request import Request


def adopted(content: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A study of ours made from a file in a form of its users' own; None where it is not in such a form."""
    return None


def baselines(
    request: Request, base: Section, fractions: tuple[float, ...], fingerprints: Fingerprints
) -> list[Section]:
    """Specs of reference measurements that are no trainings of this task."""
    return []


def export_folder(request: Request, base: Section, finetune: Section | None) -> str | None:
    """Where the model of a request goes in the form that others use; None where it is not exported."""
    return None


def notes(request: Request, base: Section) -> list[str]:
    """What the reader of a plan should know about a request."""
    return []


def parent_request(request: Request, problems: Problems) -> Request | None:
    """The stage that a base training starts from; None where it starts from scratch."""
    return None


def is_meant(request: Request) -> bool:
    """Whether a combination of a grid is meant at all; one that is not is left out without a word."""
    return True
