"""The sockets of a user's warm processes, in a folder that nobody else can enter. Stdlib only, and little of it."""

import fcntl
import os
import socket
import struct
import zlib
from contextlib import contextmanager, suppress

from ..machine.owner import fault_of, too_open

ROOT = "ROOTSTOCK_WARM_ROOT"
ROOM = 4  # warm processes per Slurm allocation, or per user outside Slurm; each has torch in memory
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(Exception):
    """Another user may have been in the folder of our sockets."""


def name_of(surroundings: str) -> str:
    """The name of the matching warm process. A clash of names costs only a cold start: the server compares the full text."""
    job = os.environ.get("SLURM_JOB_ID", "")  # `ROOM` applies to each allocation
    return f"{job}-{zlib.crc32(surroundings.encode(errors='surrogateescape')):08x}"


def folder_path() -> str:
    return os.environ.get(ROOT) or f"{os.environ.get('TMPDIR') or '/tmp'}/rootstock-warm-{os.geteuid()}"


@contextmanager
def entered():
    """Yield a descriptor of the folder, made if missing. Raise `NotOurs` unless it is accessible to us alone."""
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
    """Lock the folder, so that warm processes start and end one at a time."""
    lock = os.open("lock", LOCK, 0o600, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def connected(folder: int, name: str) -> socket.socket | None:
    """A connection to our warm process of this name, or None."""
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
    """A socket for a new warm process; None if `ROOM` of them run already. Removes the sockets of dead ones. The caller
    holds the lock of the folder."""
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
    """Whether a warm process listens; remove what a dead one left."""
    if connection := connected(folder, name):
        connection.close()
        return True
    forget(folder, name)
    return False


def forget(folder: int, name: str) -> None:
    """Remove the socket and log of a warm process that has ended or is ending."""
    for file in (f"{name}.socket", f"{name}.log"):
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=folder)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other end, from the kernel."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", told)[:2]


def _address(folder: int, name: str) -> str:
    """A path by way of the open folder: it follows no link, and stays short however long the folder's path is."""
    return f"/proc/self/fd/{folder}/{name}.socket"
