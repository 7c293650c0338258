"""The objects of a store at a glance: nothing is verified here."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.private import read_json
from ..machine.trees import inside
from ..study.identity import is_hash
from ..study.problems import Refusal, on_one_line
from .lock import is_held


@dataclass(frozen=True)
class Entry:
    """One object. Its `state` is whole, training, unfinished (killed, to be resumed), damaged (its metadata cannot be
    read) or refused (it is not a folder, cannot be listed, or contains something that is neither file nor folder).

    For a damaged or refused object, `fault` says in one line why it is skipped."""

    name: str
    kind: str
    size: int
    state: str
    asked_by: str
    fault: str = ""


def inventory(store: str | Path) -> list[Entry]:
    """Every object of a store, sorted by name; an empty list if there is no store yet."""
    folder = Path(store)
    if not folder.is_dir():
        return []
    return [_entry(f, folder) for f in sorted(folder.iterdir()) if is_hash(f.name)]


def sizes_text(size: int) -> str:
    """A number of bytes in MB or GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"


def _entry(folder: Path, store: Path) -> Entry:
    try:
        found = _found(folder, store)
        size = sum(status.st_size for status in found.values() if stat.S_ISREG(status.st_mode))
        fault = next(filter(None, (_fault(folder, path, found[path]) for path in sorted(found))), "")
        return (
            Entry(folder.name, "", size, "refused", "", on_one_line(fault))
            if fault
            else _described(folder, store, size)
        )
    except (Refusal, OSError) as reason:
        fault = str(reason) if isinstance(reason, Refusal) else f"{folder}: cannot be read ({reason})"
        return Entry(folder.name, "", 0, "refused", "", on_one_line(fault))


def _found(folder: Path, store: Path) -> dict[Path, os.stat_result]:
    """An object's path and, if it is a folder, everything in it."""
    status = folder.lstat()
    return {folder: status} | (dict(inside(folder, store)) if stat.S_ISDIR(status.st_mode) else {})


def _fault(folder: Path, path: Path, status: os.stat_result) -> str:
    """Why an object, or something in it, is refused; empty if it is in order."""
    if stat.S_ISLNK(status.st_mode):
        return f"{path}: is a link, and no link is followed in a store; delete it"
    if path == folder:
        return "" if stat.S_ISDIR(status.st_mode) else f"{path}: is no folder; delete it"
    is_of_lock = path.parent == folder and path.name.startswith("lock")
    if stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and not is_of_lock):
        return ""
    return f"{path}: is no regular file; delete it"


def _described(folder: Path, store: Path, size: int) -> Entry:
    """The entry of an object, from its metadata."""
    file = folder / "metadata.json"
    try:
        metadata = read_json(file, store)
        return Entry(folder.name, _kind(metadata), size, "whole", _asked_by(metadata))
    except FileNotFoundError:
        state = "training" if is_held(folder / "lock", store) else "unfinished"
        return Entry(folder.name, "", size, state, "")
    except Refusal as reason:
        return Entry(folder.name, "", size, "damaged", "", str(reason))
    except (OSError, ValueError) as reason:
        fault = f"{file}: cannot be read ({reason}); forget {folder.name} and train it again"
        return Entry(folder.name, "", size, "damaged", "", on_one_line(fault))


def _kind(metadata: dict[str, Any]) -> str:
    kind = metadata.get("kind")
    if not isinstance(kind, str) or not kind.isprintable():
        raise ValueError("it names no kind")
    return kind


def _asked_by(metadata: dict[str, Any]) -> str:
    asked = metadata.get("asked_by")
    names = [asked.get("study"), asked.get("name")] if isinstance(asked, dict) else []
    return " ".join(name for name in names if isinstance(name, str) and name.isprintable()).strip()
