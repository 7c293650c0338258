"""Trainings whose names in the store are not those they would get today. Specs are normalised before they are hashed,
and new rules change the names.

A training that is stored under a former name is handed out instead of trained again. The index of such names is a file
in the store. It is a cache, rebuilt if it is missing or cannot be read. Whoever can write into the store can write the
index, so it only says where to look: an object found by it is named again from its own spec.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..machine.private import json_object, read_json
from ..study.identity import is_hash, text_digest
from ..study.problems import Refusal
from .files import write_json
from .objects import StoredObject, stored

RULES = 1  # raise it with each new rule in a task's `normalised`: the index is then rebuilt
INDEX = f"former_names_{RULES}.json"
STARTS = ("base", "parent")  # fields of a spec that name another training
MOST_STAGES = 50  # of trainings, each started from the one before
DAMAGED = (OSError, ValueError, LookupError, TypeError, Refusal)

NameToday = Callable[[dict[str, Any]], str | None]


def found_under_former_name(store: str | Path, name: str, name_today: NameToday) -> StoredObject | None:
    """Return the whole object whose spec gets `name` from `name_today`; None if there is none.

    `name_today` gets the spec as it was recorded, and returns None for a spec that cannot be read today.
    """
    folder = Path(store)
    if not folder.is_dir():
        return None
    seen = _index(folder)
    new = [entry.name for entry in folder.iterdir() if is_hash(entry.name) and entry.name not in seen]
    for one in new:
        _see(folder, one, seen, name_today)
    if not seen.keys().isdisjoint(new):
        _keep(folder, seen)
    for former in (one for one, today in seen.items() if today == name and one != name):
        own: dict[str, str] = {}
        _see(folder, former, own, name_today)
        if own.get(former) == name:
            return stored(store, former)
    return None


def _see(store: Path, name: str, seen: dict[str, str], name_today: NameToday, depth: int = 0) -> None:
    """Note an object's name of today. The training that it started from comes first, because its name is in the
    spec."""
    if name in seen or depth > MOST_STAGES:
        return
    try:
        spec = _spec(stored(store, name))
    except DAMAGED:
        return  # not whole yet, or damaged: tried again next time
    for field in STARTS:
        if is_hash(start := spec.get(field)):
            _see(store, start, seen, name_today, depth + 1)
            spec[field] = seen.get(start, start)
    seen[name] = name_today(spec) or name


def _spec(kept: StoredObject) -> dict[str, Any]:
    """An object's spec. Raise `ValueError` if it does not hash to the object's name."""
    text = str(read_json(kept.metadata, kept.store)["spec_json"])
    if text_digest(text) != kept.hash:
        raise ValueError("its spec hashes to another name")
    return json_object(text)


def _index(folder: Path) -> dict[str, str]:
    try:
        content = read_json(folder / INDEX, folder)
    except (OSError, ValueError, Refusal):
        return {}
    return {name: today for name, today in content.items() if is_hash(name) and is_hash(today)}


def _keep(folder: Path, seen: dict[str, str]) -> None:
    try:
        write_json(folder / INDEX, seen, folder)
    except (OSError, Refusal):
        return  # a read-only store: each caller rebuilds the index
