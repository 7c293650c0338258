"""Files that are whole or absent: written beside, synced, and renamed in one step."""

import glob
import json
import os
import secrets
from pathlib import Path
from typing import Any

from ..study.identity import short_digest
from .machine import this_machine


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a power cut, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        _write(temporary, content)
        os.replace(temporary, path)
    except OSError as error:  # a full disk does not say where it is full
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`value` as readable JSON, whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def link_or_copy(source: Path, destination: Path) -> None:
    """The same content under a second name, in one rename: a hard link where the file system allows, else a copy."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(destination)
    try:
        try:
            os.link(source, temporary)
            os.utime(temporary)
        except OSError:
            temporary.unlink(missing_ok=True)
            _write(temporary, source.read_bytes())
        os.replace(temporary, destination)
    finally:
        temporary.unlink(missing_ok=True)  # rename does nothing when both names are already one file


def _beside(path: Path) -> Path:
    """A name for what will become `path`. What processes of this machine that were killed left under such names is removed."""
    mine = f".{path.name}.{short_digest(this_machine())}."
    for left in path.parent.glob(f"{glob.escape(mine)}*"):
        pid = left.name.removeprefix(mine).partition(".")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            left.unlink(missing_ok=True)
    return path.with_name(f"{mine}{os.getpid()}.{secrets.token_hex(4)}")


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
