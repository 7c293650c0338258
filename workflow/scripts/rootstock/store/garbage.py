"""What no study reaches: found, shown, and freed under the object's lock."""

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..study.problems import Refusal
from .inventory import Entry, inventory
from .lock import hold, holder, is_held
from .objects import stored
from .users import users_of


@dataclass(frozen=True)
class Garbage:
    """One object that is to go, or only the checkpoints that a killed training left in a whole one."""

    entry: Entry
    size: int
    only_checkpoints: bool = False

    @property
    def text(self) -> str:
        """What it is, in words."""
        if self.only_checkpoints:
            return f"checkpoints of {self.entry.name}, which is whole without them"
        asked_by = f"asked for by {self.entry.asked_by}" if self.entry.asked_by else "asked for by nobody known"
        return f"{self.entry.kind or 'training'} {self.entry.name}, {self.entry.state}, {asked_by}"


def find_garbage(store: str | Path, reached: Iterable[str], older_than: float = 0.0) -> list[Garbage]:
    """Objects that neither `reached` nor a recorded user needs, untouched for `older_than` seconds, and not being written."""
    needed = set(reached).union(*(user.reaches for user in users_of(store)))
    found = []
    for entry in inventory(store):
        folder = Path(store) / entry.name
        if is_held(folder / "lock") or time.time() - _last_touched(folder) < older_than:
            continue
        if entry.name not in needed:
            found.append(Garbage(entry, entry.size))
        elif entry.state == "whole" and (size := _size(folder / "checkpoints")):
            found.append(Garbage(entry, size, only_checkpoints=True))
    return found


def free(store: str | Path, item: Garbage, reached: Iterable[str]) -> bool:
    """Remove one piece of garbage, unless somebody began to need or to write it meanwhile; whether it is gone."""
    if item not in find_garbage(store, reached):
        return False
    if item.only_checkpoints:
        stored(store, item.entry.name).clear_checkpoints()
    else:
        remove(store, item.entry.name)
    return True


def remove(store: str | Path, name: str) -> None:
    """Remove one object while nobody writes it; `Refusal` says who does."""
    kept = stored(store, name)
    lock = kept.folder / "lock"
    if is_held(lock):
        raise Refusal(f"{name}: is being trained by {holder(lock)}; stop that first")
    with hold(lock, wait_seconds=5):
        kept.metadata.unlink(missing_ok=True)  # first: without it the object is not there
        for path in kept.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith("lock"):
                path.unlink()
    for rest in kept.folder.glob("lock.*.break"):
        rest.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: somebody waited for the lock and trains it now
        kept.folder.rmdir()


def _last_touched(folder: Path) -> float:
    return max((path.stat().st_mtime for path in [folder, *folder.rglob("*")] if path.name != "lock"), default=0.0)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
