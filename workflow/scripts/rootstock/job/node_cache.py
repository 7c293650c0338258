"""Copies of base models on a node's own disk, for projects on a remote disk. The least recently used are removed first.

The folder exists only where `cluster.py up` made it. Many jobs of a node may use it at once.
"""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from ..machine.private import cluster_root, entered, is_own, model_cache, new_file, opened, remove_file
from ..study.identity import sha256_of
from ..study.problems import Refusal


def limit_bytes() -> int:
    """The limit of the cache. Each job reads it anew: a constant of the module would be the warm process's."""
    return int(float(os.environ.get("ROOTSTOCK_CACHE_GB", "20")) * 1e9)


def on_this_node(
    model: Path,
    name: str,
    metadata: Path,
    say: Callable[[str], None],
    folder: Path | None = None,
    limit: int | None = None,
) -> Path:
    """Return the local copy of a base model, made now if it is missing or damaged; `model` itself if there is no cache.

    Whoever loads the copy has to verify it again.
    """
    try:
        folder = folder or model_cache(cluster_root())
        if not is_own(folder.parent, "remove it") or not folder.is_dir():
            return model
        sha256 = json.loads(metadata.read_text())["model_sha256"]
    except Refusal as reason:  # no reason to give up: the original can still be read
        say(f"base model {name} is read from where it lies: {reason}")
        return model
    except (OSError, ValueError, KeyError, TypeError):
        return model  # whoever loads the model reports the fault
    return _copy_of(model, name, sha256, say, folder, limit_bytes() if limit is None else limit)


def _copy_of(model: Path, name: str, sha256: str, say: Callable[[str], None], folder: Path, limit: int) -> Path:
    copy = folder / f"{name}.pt"
    try:
        with FileLock(folder / f".{name}.lock"):
            if not _is_whole(copy, sha256):
                with opened(model) as source:
                    if sha256_of(source) != sha256:
                        return model
                    _write(source, copy)
                say(f"copied base model {name} to this node")
            os.utime(copy, follow_symlinks=False)
        with FileLock(folder / ".room.lock"):
            make_room(folder, limit, keep=copy)
    except OSError as error:  # a full disk, say
        say(f"base model {name} is read from where it lies: {folder} cannot be used ({error.strerror})")
        return model
    return copy


def _is_whole(copy: Path, sha256: str) -> bool:
    try:
        with opened(copy, copy.parent) as file:
            return sha256_of(file) == sha256
    except (FileNotFoundError, Refusal):  # a link in its place is replaced, not followed
        return False


def _write(source: BinaryIO, copy: Path) -> None:
    temporary = f".{copy.stem}.{secrets.token_hex(8)}.half"
    with entered(copy.parent, copy.parent.parent) as folder:
        try:
            with new_file(temporary, folder) as file:
                shutil.copyfileobj(source, file)
            os.replace(temporary, copy.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            remove_file(temporary, folder)


def make_room(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Remove the least recently used copies until the rest fits `limit` bytes. A process can finish reading an open copy."""
    copies = sorted(folder.glob("*.pt"), key=lambda path: path.lstat().st_mtime)
    total = sum(path.lstat().st_size for path in copies)
    for path in copies:
        if total <= limit:
            return
        if path != keep:
            total -= path.lstat().st_size
            path.unlink(missing_ok=True)
