"""Where a user's warm processes are reached: sockets in a folder that is theirs alone. Stdlib only, and little of it."""

import fcntl
import os
import socket
import struct
import zlib
from contextlib import contextmanager, suppress

from ..machine.owner import fault_of, too_open

ROOT = "ROOTSTOCK_WARM_ROOT"
ROOM = 4  # warm processes of one user, each of the size of torch
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(Exception):
    """Somebody else may have been where our sockets lie."""


def name_of(surroundings: str) -> str:
    """The name of the warm process that fits. Two of one name cost nothing but a cold start: each compares the whole."""
    job = os.environ.get("SLURM_JOB_ID", "")  # each allocation has room of its own
    return f"{job}-{zlib.crc32(surroundings.encode(errors='surrogateescape')):08x}"


def folder_path() -> str:
    return os.environ.get(ROOT) or f"{os.environ.get('TMPDIR') or '/tmp'}/rootstock-warm-{os.geteuid()}"


@contextmanager
def entered():
    """A descriptor of the folder, made where it is not there; `NotOurs` where it is not ours alone."""
    path = folder_path()
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        folder = os.open(path, FOLDER)
    except OSError as error:
        raise NotOurs(f"{path}: is a link, or no folder of yours ({error.strerror})") from None
    try:
        status = os.fstat(folder)
        if fault := fault_of(status) or too_open(status):
            raise NotOurs(f"{path}: {fault}")
        yield folder
    finally:
        os.close(folder)


@contextmanager
def locked(folder: int):
    """Hold the folder: who starts a warm process, or ends as one, is alone."""
    lock = os.open("lock", LOCK, 0o600, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def connected(folder: int, name: str) -> socket.socket | None:
    """A connection to a warm process of ours; None where there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    try:
        connection.connect(_address(folder, name))
        if peer_of(connection)[1] == os.geteuid():
            return connection
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    connection.close()
    return None


def listening(folder: int, name: str) -> socket.socket | None:
    """A socket that a warm process is reached at, in the place of one that nobody listens to; None where there are enough.
    The folder is locked."""
    taken = [other for file in os.listdir(folder) if (other := file.removesuffix(".socket")) != file]
    alive = [other for other in taken if is_alive(folder, other)]
    if sum(other.rpartition("-")[0] == name.rpartition("-")[0] for other in alive) >= ROOM:
        return None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_address(folder, name))
    os.chmod(f"{name}.socket", 0o600, dir_fd=folder)
    listener.listen(128)
    return listener


def is_alive(folder: int, name: str) -> bool:
    """Whether a warm process listens; what a dead one left is removed."""
    if connection := connected(folder, name):
        connection.close()
        return True
    forget(folder, name)
    return False


def forget(folder: int, name: str) -> None:
    """Remove what belongs to a warm process that is no more."""
    for file in (f"{name}.socket", f"{name}.log"):
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=folder)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Which process of which user is at the other end, as the kernel tells."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", told)[:2]


def _address(folder: int, name: str) -> str:
    """By the open folder: through no link, and short however long its path is."""
    return f"/proc/self/fd/{folder}/{name}.socket"
