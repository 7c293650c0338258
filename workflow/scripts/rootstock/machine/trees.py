"""Folders that others can write in: what lies in one is listed within bounds and removed through no link, however deep it is."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..study.problems import Refusal
from .private import FOLDER, entered, refuse_link

MANY = 100_000  # files of one object: none of ours has so many
DEEP = 20  # folders in each other: ours has one in another


def remove_folder(folder: Path, below: Path) -> None:
    """Remove a folder and all in it, where it is there; links in it go, what they point to stays."""
    with suppress(FileNotFoundError), entered(folder.parent, below) as above:
        refuse_link(folder, above)
        remove_tree(folder.name, above)


def remove_tree(name: str, above: int) -> None:
    """Remove a folder of an open one, however deep the folders in it are: each is moved up to the first and emptied there."""
    top = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=above)
    try:
        while inner := [one for one in os.listdir(top) if _is_left(one, top)]:
            for one in inner:
                _move_up(one, top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=above)


def _is_left(name: str, folder: int) -> bool:
    """Whether something of an open folder is a folder that is not empty; what is not is removed."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    except (IsADirectoryError, PermissionError):  # the latter may be a folder too, by POSIX
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return True
    return False


def _move_up(name: str, top: int) -> None:
    """Empty a folder of an open one: the folders in it, where they are not empty, go to the latter."""
    folder = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=top)
    try:
        for one in os.listdir(folder):
            if _is_left(one, folder):
                os.rename(one, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def inside(folder: Path, below: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All that lies in a folder, links as themselves; nothing where it is not there. `Refusal` where it is more, or deeper, than
    anything of ours."""
    found, waiting = 0, [folder]
    while waiting:
        where = waiting.pop()
        with suppress(FileNotFoundError), entered(where, below) as descriptor:
            for name in os.listdir(descriptor):
                with suppress(FileNotFoundError):  # gone meanwhile
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    found += 1
                    if found > MANY or len(where.parts) - len(folder.parts) > DEEP:
                        raise Refusal(
                            f"{folder}: holds more than {MANY} files, or folders more than {DEEP} deep; forget it"
                        )
                    yield where / name, status
                    waiting += [where / name] if stat.S_ISDIR(status.st_mode) else []
