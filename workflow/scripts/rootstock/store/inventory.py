"""What a store holds, at a glance: nothing is verified here."""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from ..machine.private import inside, read
from ..study.identity import is_hash
from .lock import is_held


@dataclass(frozen=True)
class Entry:
    """One object: `state` is whole, training, unfinished (killed, to be resumed), or refused: a `link` is or lies in it."""

    name: str
    kind: str
    size: int
    state: str
    asked_by: str
    link: Path | None = None

    @property
    def fault(self) -> str:
        """Why nothing is done with it; empty where it is in order."""
        return f"{self.link}: is a link, and no link is followed in a store; delete it" if self.link else ""


def inventory(store: str | Path) -> list[Entry]:
    """Every object of a store, sorted by name; an empty list where there is no store yet."""
    folder = Path(store)
    if not folder.is_dir():
        return []
    return [_entry(f, folder) for f in sorted(folder.iterdir()) if is_hash(f.name)]


def sizes_text(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"


def _entry(folder: Path, store: Path) -> Entry:
    found = {} if folder.is_symlink() else dict(inside(folder, store))
    size = sum(status.st_size for status in found.values() if stat.S_ISREG(status.st_mode))
    links = [path for path, status in found.items() if stat.S_ISLNK(status.st_mode)]
    if folder.is_symlink() or links:
        return Entry(folder.name, "", size, "refused", "", min(links, default=folder))
    try:
        metadata = json.loads(read(folder / "metadata.json", store))
        asked = metadata.get("asked_by", {})
        return Entry(
            folder.name, metadata["kind"], size, "whole", f"{asked.get('study', '')} {asked.get('name') or ''}".strip()
        )
    except (OSError, ValueError, KeyError, TypeError):
        state = "training" if is_held(folder / "lock", store) else "unfinished"
        return Entry(folder.name, "", size, state, "")
