"""Base models on a node's own disk, where the project's disk is far: copied once, verified, the least used go first.

The folder exists only where `cluster.py up` made it. Many jobs of a node may ask at once.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from ..cluster.daemons import cluster_root
from ..study.identity import sha256_file

FOLDER = cluster_root() / "cache"
LIMIT_BYTES = int(float(os.environ.get("ROOTSTOCK_CACHE_GB", "20")) * 1e9)


def on_this_node(
    model: Path, name: str, metadata: Path, say: Callable[[str], None], folder: Path = FOLDER, limit: int = LIMIT_BYTES
) -> Path:
    """The local copy of a base model, made now if it is not there or not whole; `model` itself where there is no cache."""
    if not folder.is_dir():
        return model
    try:
        sha256 = json.loads(metadata.read_text())["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return model  # whoever reads it says what is wrong with it
    copy = folder / f"{name}.pt"
    try:
        with FileLock(folder / f".{name}.lock"):
            if not copy.is_file() or sha256_file(copy) != sha256:
                temporary = folder / f".{name}.half"
                shutil.copyfile(model, temporary)
                if sha256_file(temporary) != sha256:
                    return model
                os.replace(temporary, copy)
                say(f"copied base model {name} to this node")
            os.utime(copy)
        with FileLock(folder / ".room.lock"):
            make_room(folder, limit, keep=copy)
    except OSError as error:  # a full disk, say: what is far can be read all the same
        say(f"base model {name} is read from where it lies: {folder} cannot be used ({error.strerror})")
        return model
    return copy


def make_room(folder: Path, limit: int, keep: Path | None = None) -> None:
    """Remove the longest unused copies until the rest is within `limit` bytes. An open copy stays readable to who reads it."""
    copies = sorted(folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in copies)
    for path in copies:
        if total <= limit:
            return
        if path != keep:
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
