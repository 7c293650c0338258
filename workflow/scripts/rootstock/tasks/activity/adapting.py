"""The recordings of its target that a fine-tune learns from, as a study names them. Light: no torch."""

from ...study.problems import Problems
from .people import Asked
from .settings import Data
from .specs import DataIdentity

SMARTWATCH_RECORDINGS = {"left": 0, "right": 1}  # the arms


def recordings_of(request: Asked, problems: Problems) -> tuple[int, ...] | None:
    """The numbers of the recordings that a fine-tune learns from, sorted; None if it learns from a part of each."""
    wish = request.finetune
    if wish is None or not request.is_founded:
        return None
    is_split = request.data.split_by == "recording"
    if wish.adapt_on is None:
        if is_split:
            fix = f"missing; with data.split_by: recording say which to learn from: {_choices(request.data)}, or a list"
            problems.add("finetune.adapt_on", None, fix)
        return None
    if not is_split:
        problems.add("finetune.adapt_on", wish.adapt_on, "needs data.split_by: recording; set that or remove it")
        return None
    numbers = [_number(name.strip(), request.data) for name in wish.adapt_on.split("+")]
    found = {number for number in numbers if number is not None}
    if None in numbers or (request.data.path is None and len(found) == len(SMARTWATCH_RECORDINGS)):
        problems.add("finetune.adapt_on", wish.adapt_on, f"names no such recordings; use {_choices(request.data)}")
    return tuple(sorted(found))


def shown(recordings: tuple[int, ...], data: DataIdentity) -> str:
    """Recordings as a study names them."""
    names = {number: name for name, number in SMARTWATCH_RECORDINGS.items()} if data.name == "smartwatch" else {}
    return "+".join(names.get(number, str(number)) for number in recordings)


def _number(name: str, data: Data) -> int | None:
    if data.path is None:
        return SMARTWATCH_RECORDINGS.get(name)
    return int(name) if name.isdecimal() and name.isascii() and len(name) < 10 else None


def _choices(data: Data) -> str:
    return "left or right" if data.path is None else "their numbers joined by +, as 0 or 0+2"
