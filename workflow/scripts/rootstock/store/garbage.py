"""Objects that no study reaches: found, shown, and freed under their locks."""

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..machine.private import entered, remove_file
from ..machine.trees import inside, remove_tree
from ..study.problems import Refusal
from .inventory import Entry, inventory
from .lock import hold, holder, is_held
from .objects import stored
from .users import users_of


@dataclass(frozen=True)
class Garbage:
    """One object to remove, or only the checkpoints that a killed training left in a whole one."""

    entry: Entry
    size: int
    only_checkpoints: bool = False

    @property
    def text(self) -> str:
        """A description in words."""
        if self.only_checkpoints:
            return f"checkpoints of {self.entry.name}, which is whole without them"
        asked_by = f"asked for by {self.entry.asked_by}" if self.entry.asked_by else "asked for by nobody known"
        return f"{self.entry.kind or 'training'} {self.entry.name}, {self.entry.state}, {asked_by}"


def find_garbage(store: str | Path, reached: Iterable[str], older_than: float = 0.0) -> list[Garbage]:
    """Objects that neither `reached` nor a recorded user needs, and checkpoints left in whole objects that are needed.

    Objects that are being written, were touched in the last `older_than` seconds or have an `Entry.fault` are
    skipped."""
    needed = set(reached).union(*(user.reaches for user in users_of(store)))
    found = []
    for entry in inventory(store):
        folder = Path(store) / entry.name
        if entry.fault or _is_busy(folder) or time.time() - _last_touched(folder) < older_than:
            continue
        if entry.name not in needed:
            found.append(Garbage(entry, entry.size))
        elif entry.state == "whole" and (size := _size(folder / "checkpoints", Path(store))):
            found.append(Garbage(entry, size, only_checkpoints=True))
    return found


def free(store: str | Path, item: Garbage, reached: Iterable[str]) -> bool:
    """Remove one piece of garbage, unless somebody needs or writes it by now. Return whether it was removed."""
    if item not in find_garbage(store, reached):
        return False
    if item.only_checkpoints:
        stored(store, item.entry.name).clear_checkpoints()
    else:
        remove(store, item.entry.name)
    return True


def remove(store: str | Path, name: str) -> None:
    """Remove one object. Raise `Refusal` with the writer's name if it is being written. Links are removed, not
    followed."""
    kept = stored(store, name)
    lock = kept.folder / "lock"
    if is_held(lock, kept.store):
        raise Refusal(f"{name}: is being trained by {holder(lock, kept.store)}; stop that first")
    with hold(lock, kept.store, wait_seconds=5), entered(kept.folder, kept.store) as folder:
        remove_file(kept.metadata.name, folder)  # first: without its metadata the object does not exist
        for path in list(os.scandir(folder)):
            if path.is_dir(follow_symlinks=False):
                remove_tree(path.name, folder)
            elif not path.name.startswith("lock"):
                remove_file(path.name, folder)
    _remove_empty(kept.folder, kept.store)


def _remove_empty(folder: Path, store: Path) -> None:
    """Remove an object's folder and the files that broken locks left in it."""
    with suppress(FileNotFoundError), entered(folder, store) as descriptor:
        for name in os.listdir(descriptor):
            if name.startswith("lock.") and name.endswith(".break"):
                remove_file(name, descriptor)
    with suppress(OSError), entered(store) as above:  # not empty: a process that waited for the lock trains it now
        os.rmdir(folder.name, dir_fd=above)


def _is_busy(folder: Path) -> bool:
    """Whether somebody writes an object; True if that cannot be determined."""
    try:
        return is_held(folder / "lock", folder.parent)
    except (OSError, Refusal):
        return True


def _last_touched(folder: Path) -> float:
    times = [status.st_mtime for path, status in inside(folder, folder.parent) if path.name != "lock"]
    return max([folder.lstat().st_mtime, *times])


def _size(folder: Path, store: Path) -> int:
    return sum(status.st_size for _, status in inside(folder, store) if stat.S_ISREG(status.st_mode))
