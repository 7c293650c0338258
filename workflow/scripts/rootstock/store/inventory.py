"""What a store holds, at a glance: nothing is verified here."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..study.identity import HASH_LENGTH
from .lock import is_held


@dataclass(frozen=True)
class Entry:
    """One object: `state` is whole, training, or unfinished (killed, to be resumed)."""

    name: str
    kind: str
    size: int
    state: str
    asked_by: str


def inventory(store: str | Path) -> list[Entry]:
    """Every object of a store, sorted by name; an empty list where there is no store yet."""
    folder = Path(store)
    if not folder.is_dir():
        return []
    return [_entry(f) for f in sorted(folder.iterdir()) if re.fullmatch(f"[0-9a-f]{{{HASH_LENGTH}}}", f.name)]


def sizes_text(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.2f} MB"


def _entry(folder: Path) -> Entry:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    try:
        metadata = json.loads((folder / "metadata.json").read_text())
        asked = metadata.get("asked_by", {})
        return Entry(
            folder.name, metadata["kind"], size, "whole", f"{asked.get('study', '')} {asked.get('name') or ''}".strip()
        )
    except (OSError, ValueError, KeyError, TypeError):
        state = "training" if is_held(folder / "lock") else "unfinished"
        return Entry(folder.name, "", size, state, "")
