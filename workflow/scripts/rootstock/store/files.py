"""Files that are whole or absent: written under a temporary name, synced, and renamed in one step.

`below` names a folder that others can write too: no link below it is followed (machine.private).
"""

import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..machine.private import entered, is_alive, new_file, not_mine, remove_file
from ..machine.this import this_machine
from ..study.identity import short_digest


def write_atomically(path: Path, content: bytes, below: Path | None = None) -> None:
    """Write `content` to `path` so that readers see the old file or the new one, also after a power cut."""
    with entered(path.parent, below, make=True) as folder:
        temporary = _beside(path.name, folder)
        try:
            _write(temporary, folder, content)
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:  # a full disk does not say where it is full
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            remove_file(temporary, folder)
        os.fsync(folder)


def write_json(path: Path, value: Any, below: Path | None = None) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    content = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(path, content.encode(), below)


def link_or_copy(source: BinaryIO, destination: Path, below: Path | None = None) -> None:
    """Give an open file's content another name in one rename: by a hard link if possible, else by a copy."""
    with entered(destination.parent, below, make=True) as folder:
        temporary = _beside(destination.name, folder)
        try:
            if not _link(source, temporary, folder):
                _write(temporary, folder, source)
            os.replace(temporary, destination.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            remove_file(temporary, folder)  # a rename does nothing if both names are already one file


def _link(source: BinaryIO, name: str, folder: int) -> bool:
    """Return whether the open file got another name. A file that others may write gets none: they could change it
    later."""
    if not_mine(source):
        return False
    try:
        os.link(f"/proc/self/fd/{source.fileno()}", name, dst_dir_fd=folder)  # this very file, whatever its name is now
        os.utime(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        remove_file(name, folder)
        return False
    return True


def _beside(name: str, folder: int) -> str:
    """A temporary name for what becomes `name`. Files that killed processes of this machine left are removed first."""
    mine = f".{name}.{short_digest(this_machine())}."
    for left in os.listdir(folder):
        pid = left.removeprefix(mine).partition(".")[0]
        if left.startswith(mine) and re.fullmatch("[0-9]{1,7}", pid) and not is_alive(int(pid)):
            with suppress(OSError):  # a folder, or another user's: tidying up must not end a training
                remove_file(left, folder)
    return f"{mine}{os.getpid()}.{secrets.token_hex(8)}"


def _write(name: str, folder: int, content: bytes | BinaryIO) -> None:
    with new_file(name, folder) as file:
        file.write(content) if isinstance(content, bytes) else shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
