"""The identity of a user's files: hashes of their content, cached by path, size, times and inode, so that each file is
read once."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from . import paths
from .identity import sha256_file, sha256_text

T = TypeVar("T")


class Fingerprints:
    """Content hashes of files. `save` keeps them for the next plan; without it nothing is written."""

    def __init__(self, cache: str | Path = paths.FINGERPRINTS):
        self.cache = Path(cache)
        self.known = self._load()
        self.changed = False
        self.seen: dict[str, Any] = {}

    def once(self, key: str, read: Callable[[], T]) -> T:
        """The result of `read`, which is called once per key while a plan is made."""
        if key not in self.seen:
            self.seen[key] = read()
        return self.seen[key]

    def of(self, files: list[Path]) -> str:
        """One hash of the contents of several files, in order; file names do not count."""
        return sha256_text(" ".join(self._file(file) for file in files))

    def _file(self, file: Path) -> str:
        status = file.stat()
        # A file that replaces another may have its size and mtime, but not both its ctime and its inode.
        key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
        if key not in self.known:
            self.known[key] = sha256_file(file)
            self.changed = True
        return self.known[key]

    def _load(self) -> dict[str, str]:
        try:
            known = json.loads(self.cache.read_text())
            return {file: content for file, content in known.items() if isinstance(content, str)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}  # a cache: what is missing or damaged is computed again

    def save(self) -> None:
        """Write the cache, whole or not at all, if it has new hashes."""
        if not self.changed:
            return
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.cache.with_name(f"{self.cache.name}.{os.getpid()}")
        temporary.write_text(json.dumps(self.known, indent=0))
        temporary.replace(self.cache)
        self.changed = False
