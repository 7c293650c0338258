"""The warm process: it loads torch and what the jobs need, computes nothing, and forks a supervisor for each job.

The client of the first job starts it. It keeps no state of any job, so killing it ends no job. It ends when it is idle or the code on
disk has changed.
"""

import ctypes
import gc
import importlib
import marshal
import os
import signal
import socket
import sys
import time
import traceback
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from . import place
from .client import STATUS
from .supervisor import supervise
from .surroundings import Request, rights_of, surroundings

SECONDS = "ROOTSTOCK_WARM_SECONDS"
IDLE_SECONDS = 300.0
REQUEST_SECONDS = 5.0  # for a client to send its request, which it sends all at once
WATCH_SECONDS = 2.0
LONGEST = 16 * 2**20  # bytes of a request; a command line and its variables take at most 2 MB
LISTENER = 3  # the descriptor of the socket that the client hands over
LARGE_PAGE = 2**21  # bytes
COLLAPSE = 25  # MADV_COLLAPSE
# What trainings load late: torch loads most of it when it saves a model or seeds a generator; the lock loads idna when it asks for
# the host's name.
LATE = ("rootstock.engine.device", "numpy.random", "torch.utils.serialization", "torch.profiler._cupti_monitor")
LATE += ("multiprocessing.synchronize", "encodings.idna")
ENGINE = "rootstock.engine.loop"  # what a user's own task shares with the others
OWN = ("", "")
OF_JEMALLOC = "jemalloc_bg_thd"  # a thread from pyarrow, which pandas loads; jemalloc itself handles forks
PARTS = {  # the part of a task that each script loads
    "train_base": "trainer",
    "train_finetune": "trainer",
    "prepare_data": "preparer",
    "measure_baseline": "baseline_methods",
}


def serve(name: str) -> None:
    """Fork for each request until none comes for some minutes, the code changes, or the Slurm task ends."""
    signal.signal(signal.SIGCHLD, _reap)
    warm = _Warm(name)
    with socket.socket(fileno=LISTENER) as listener:
        for connection in warm.connections(listener):
            with connection:
                if not warm.answers(connection):
                    break
        warm.end(listener)


def _reap(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Warm:
    """The warm process with the code and surroundings that it loaded, which it compares before each fork."""

    def __init__(self, name: str):
        self.name, self.scripts = name, Path(sys.path[0])
        self.code, self.surroundings = code_stamp(self.scripts), surroundings()
        self.idle_seconds = float(os.environ.get(SECONDS) or IDLE_SECONDS)
        self.master = os.environ.get("SLURM_TASK_PID")  # under Slurm it ends with this process, even if others live on
        self.variables = frozenset(os.environ)
        self.loaded: set[tuple[str, str]] = set()
        self.place = self._inode()

    def connections(self, listener: socket.socket) -> Iterator[socket.socket]:
        since = time.monotonic()
        listener.settimeout(min(WATCH_SECONDS, self.idle_seconds))
        while time.monotonic() - since < self.idle_seconds and self._has_master():
            with suppress(TimeoutError):
                yield listener.accept()[0]
                since = time.monotonic()

    def answers(self, connection: socket.socket) -> bool:
        """Fork for one connection if everything matches; return whether this process is still of use. A client that gets no
        answer does its job itself."""
        client, user = place.peer_of(connection)
        if user != os.geteuid():
            return True
        streams: list[int] = []
        try:
            request = _received(connection, streams)
            if request is None:
                return True
            if self.code != code_stamp(self.scripts):
                return False
            fits = request["surroundings"] == self.surroundings and rights_of(client) == rights_of("self")
            if fits and self._load(request) and _is_safe_to_fork():
                self._fork(connection, streams, request)
        except Exception:  # not our client's request, or not enough memory
            return True
        finally:
            for stream in streams:
                os.close(stream)
        return True

    def end(self, listener: socket.socket) -> None:
        """Accept no new clients, but serve those that have just connected."""
        with suppress(OSError, place.NotOurs), place.entered() as folder, place.locked(folder):
            if self._inode() == self.place:
                place.forget(folder, self.name)
        listener.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                with listener.accept()[0] as connection:
                    self.answers(connection)

    def _inode(self) -> int:
        """The inode of the socket of our name; it shows whether somebody removed the folder and made it anew."""
        with place.entered() as folder:
            return os.stat(f"{self.name}.socket", dir_fd=folder).st_ino

    def _has_master(self) -> bool:
        return self.master is None or Path("/proc", self.master).exists()

    def _load(self, request: Request) -> bool:
        """Load what all jobs of this kind need, but never a user's own task or model. False if the script is not one of ours."""
        script = Path(request["folder"], request["argv"][0])
        if script.stem not in PARTS or Path(os.path.realpath(script.parent)) != self.scripts:
            return False
        from ..tasks.registry import BUILT_IN, TASKS

        known = len(self.loaded)
        with suppress(Exception, SystemExit):  # the job itself will report the fault
            task = importlib.import_module(script.stem).cli.task_name(request["argv"][1:])
            part = (task, PARTS[script.stem]) if task in BUILT_IN else OWN
            if part not in self.loaded:
                self.loaded.add(part)
                getattr(TASKS.find(task), PARTS[script.stem])() if part != OWN else importlib.import_module(ENGINE)
                for module in LATE:
                    with suppress(ImportError):  # other versions of torch may have other modules
                        importlib.import_module(module)
        if len(self.loaded) > known:
            _settle()
        return True

    def _fork(self, connection: socket.socket, streams: list[int], request: Request) -> None:
        if os.fork() == 0:
            try:
                os.close(LISTENER)
                supervise(connection, streams, request, self.variables)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)


def code_stamp(scripts: Path) -> list[tuple]:
    """A stamp that changes with the code: of our files, of this Python, and of the folders with installed packages."""
    files = [entry for folder in _folders(scripts) for entry in os.scandir(folder) if entry.name.endswith(".py")]
    installed = [Path(sys.executable), *(Path(folder) for folder in sys.path[1:] if os.path.exists(folder))]
    return sorted((str(path), *_version(path.stat())) for path in (*map(Path, files), *installed))


def _folders(top: Path) -> Iterator[str]:
    return (folder for folder, _, _ in os.walk(top) if not folder.endswith("__pycache__"))


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _received(connection: socket.socket, streams: list[int]) -> Request | None:
    """A client's request; None if it only checked that somebody listens. Append its descriptors to `streams`."""
    connection.settimeout(REQUEST_SECONDS)
    head, descriptors, _, _ = socket.recv_fds(connection, STATUS.size, 3)
    streams += descriptors
    if not head:
        return None
    (length,) = STATUS.unpack(head)
    if len(streams) != 3 or not 0 < length < LONGEST:
        raise ValueError("no request")
    words = bytearray()
    while len(words) < length:
        if not (more := connection.recv(length - len(words))):
            raise EOFError
        words += more
    connection.settimeout(None)
    return marshal.loads(words)


def _settle() -> None:
    """Prepare for forks after loading. The garbage collector leaves loaded objects alone, so that their pages stay shared; no
    job runs their finalizers at exit, because they are not its own; a first fork ends the threads of OpenBLAS."""
    gc.collect()
    gc.freeze()
    _in_large_pages()
    for finalizer in weakref.finalize._registry:  # pyright: ignore[reportAttributeAccessIssue]
        finalizer.atexit = False
    if (child := os.fork()) == 0:
        os._exit(0)
    with suppress(ChildProcessError):  # `_reap` may have been first
        os.waitpid(child, 0)


def _in_large_pages() -> None:
    """Move what was loaded into pages of 2 MB if the kernel can (Linux 6.1): a fork copies the page table, now a short one."""
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights == "rw-p" and name in ([], ["[heap]"]):
            start, end = (int(bound, 16) for bound in span.split("-"))
            start, end = -(-start // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
            if start < end:
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), COLLAPSE)


def _is_safe_to_fork() -> bool:
    """Whether the copy would miss no thread, and no GPU is in use."""
    torch = sys.modules.get("torch")
    threads = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
    return len([name for name in threads if name != OF_JEMALLOC]) == 1 and not (torch and torch.cuda.is_initialized())
