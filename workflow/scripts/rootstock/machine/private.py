"""Folders of ours that nobody else may touch, and files of shared folders, reached through no link.

A shared folder, such as a store, may be named by a link: that is its user's choice. What lies `below` it is anybody's who can write
there, so no link in it is followed. Folders are opened one after the other, each from the one above: nobody can put a link
in between afterwards.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..study.problems import Refusal
from .owner import fault_of, too_open

ROOT = "ROOTSTOCK_CLUSTER_ROOT"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in a file's place would block for ever
SMALL = 16 * 2**20  # bytes: no lock and no description of a model is larger
LARGE = 2**40  # bytes: no model is; a file of nothing but a hole costs its owner nothing and takes for ever to read
DEEP = 100  # levels of a description
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def model_cache(root: Path) -> Path:
    """Where, below such a folder, base models are copied to on servers whose project's disk is far."""
    return root / "cache"


def cluster_root() -> Path:
    """Where a user's cluster lies on every server: the same path everywhere, off the home, which may be shared.

    It is ours alone, or not there; `Refusal` says what is in its place. What is not there may be made by anybody at any
    time: whoever reads something in it asks `own_cluster`.
    """
    root = Path(os.environ.get(ROOT) or f"/var/tmp/rootstock-cluster-{os.getuid()}")
    _is_own_cluster(root)
    return root


def own_cluster() -> Path | None:
    """The same folder where it is there and ours alone, so that nobody else can change it any more; None where it is not there."""
    root = cluster_root()
    return root if _is_own_cluster(root) else None


def _is_own_cluster(root: Path) -> bool:
    return is_own(root, f"remove it, or set {ROOT} to another folder")


def is_own(folder: Path, fix: str) -> bool:
    """Whether a folder is there and ours alone; `Refusal` where it is a link, another user's or open to others, or where
    something in it is a link or another user's: it may have been open before. `fix` is what its user can do."""
    try:
        status = folder.lstat()
        if fault := fault_of(status) or too_open(status):
            raise Refusal(f"{folder}: {fault}; {fix}")
        descriptor = os.open(folder, FOLDER | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        _require_own(folder, descriptor, fix)
    finally:
        os.close(descriptor)
    return True


def _require_own(folder: Path, descriptor: int, fix: str) -> None:
    """`Refusal` unless the folder that is open is ours alone, and all in it ours."""
    status = os.fstat(descriptor)
    if fault := fault_of(status) or too_open(status):
        raise Refusal(f"{folder}: {fault}; {fix}")
    for name in sorted(os.listdir(descriptor)):
        with suppress(FileNotFoundError):  # gone meanwhile
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if fault := fault_of(status, is_folder=False):
                raise Refusal(f"{folder / name}: {fault}; {fix}")


def make_own(folder: Path, fix: str) -> None:
    """Make a folder that is ours alone, where it is not there yet."""
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    is_own(folder, fix)


@contextmanager
def entered(folder: Path, below: Path | None = None, make: bool = False) -> Iterator[int]:
    """A descriptor of a folder. With `below`, the folders under that are reached through no link; `Refusal` names the link."""
    path = folder if below is None else below
    if make:
        path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, FOLDER)
    try:
        for name in folder.relative_to(path).parts:
            path /= name
            above, descriptor = descriptor, _inner(path, descriptor, make)
            os.close(above)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path, below: Path | None = None) -> Iterator[BinaryIO]:
    """A file to read. What is verified and what is loaded is the same where both are read from this one descriptor."""
    with entered(path.parent, below) as folder:
        follow = 0 if below is None else os.O_NOFOLLOW
        descriptor = _open(path, READ | follow, folder)
    try:
        _require_readable(path, os.fstat(descriptor))
    except Refusal:
        os.close(descriptor)
        raise
    with open(path, "rb", opener=lambda *_: descriptor) as file:
        yield file


def _require_readable(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(f"{path}: is no regular file; delete it")
    if status.st_size > LARGE:
        raise Refusal(f"{path}: has more than {LARGE} bytes, so nothing of ours wrote it; delete it")


def read(path: Path, below: Path | None = None) -> bytes:
    """The content of a file."""
    with opened(path, below) as file:
        return file.read()


def read_small(path: Path, below: Path | None = None, limit: int = SMALL) -> bytes:
    """The content of a file; `Refusal` where it has more than `limit` bytes: it may have any number, and take all memory."""
    with opened(path, below) as file:
        return small_content(file, path, limit)


def small_content(file: BinaryIO, path: Path, limit: int = SMALL) -> bytes:
    """As `read_small`, of an open file."""
    content = file.read(limit + 1)
    if len(content) > limit:
        raise Refusal(f"{path}: has more than {limit} bytes, so nothing of ours wrote it; delete it")
    return content


def read_json(path: Path, below: Path | None = None) -> dict[str, Any]:
    """The object in a JSON file; `ValueError` where there is none in it."""
    return json_object(read_small(path, below))


def json_object(content: bytes | str) -> dict[str, Any]:
    """The object that a JSON text holds; `ValueError` where it is none, however odd it is."""
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    if _is_deep(found):  # what comes to use it may have less room on its stack
        raise ValueError("it is nested too deeply")
    return found


def _is_deep(value: Any) -> bool:
    left = [(value, 0)]
    while left:
        value, depth = left.pop()
        if depth > DEEP:
            return True
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        left += [(one, depth + 1) for one in inner if isinstance(one, dict | list)]
    return False


def is_there(path: Path, below: Path) -> bool:
    """Whether there is such a file; `Refusal` where it is a link."""
    try:
        with entered(path.parent, below) as folder:
            refuse_link(path, folder)
            return stat.S_ISREG(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def refuse_link(path: Path, folder: int) -> None:
    """`Refusal` where `path`, whose folder is open, is a link."""
    with suppress(FileNotFoundError):
        if stat.S_ISLNK(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise Refusal(f"{path}: is a link, and no link is followed there; delete it")


def require_regular(path: Path, folder: int) -> None:
    """`Refusal` where something else than a file is at `path`, whose folder is open."""
    refuse_link(path, folder)
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise Refusal(f"{path}: is no regular file; delete it")


def is_alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def new_file(name: str, folder: int) -> BinaryIO:
    """A file of an open folder that was not there before, to write; nobody else may, whatever the umask: see `not_mine`."""
    return open(os.open(name, NEW, 0o644, dir_fd=folder), "wb")


def not_mine(file: BinaryIO) -> str:
    """Why an open file may hold what another user wrote; empty where only we could write it."""
    status = os.fstat(file.fileno())
    if status.st_uid != os.geteuid():
        return f"{file.name} belongs to user {status.st_uid}"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return f"others may write {file.name}; if none did: chmod go-w {file.name}"
    return ""


def remove_file(name: str, folder: int) -> None:
    """Remove a file of an open folder, or the link of that name, not what it points to."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _inner(path: Path, above: int, make: bool) -> int:
    if make:
        with suppress(FileExistsError):
            os.mkdir(path.name, dir_fd=above)
    return _open(path, FOLDER | os.O_NOFOLLOW, above)


def _open(path: Path, flags: int, folder: int) -> int:
    """Something of an open folder; an error names the whole path, or the link that is there."""
    try:
        return os.open(path.name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            refuse_link(path, folder)
        raise OSError(error.errno, error.strerror, str(path)) from None
