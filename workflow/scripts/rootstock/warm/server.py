"""The warm process: started by the first job's client, it loads torch and what the jobs need, computes nothing, and forks a supervisor
for each job. It keeps no state of any, so whoever kills it ends none; it ends when idle, or when its code is not that on disk.
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
REQUEST_SECONDS = 5.0  # for a client to say what it wants: it says all at once
WATCH_SECONDS = 2.0
LONGEST = 16 * 2**20  # bytes of a request: a command line and its variables are at most 2 MB
LISTENER = 3  # the descriptor at which the socket was handed over
# What trainings load late: most by torch, when a model is saved or a generator seeded; idna by the lock that asks the host's name.
LARGE_PAGE = 2**21
COLLAPSE = 25  # MADV_COLLAPSE
LATE = ("rootstock.engine.device", "numpy.random", "torch.utils.serialization", "torch.profiler._cupti_monitor")
LATE += ("multiprocessing.synchronize", "encodings.idna")
ENGINE = "rootstock.engine.loop"  # what a task of a user's own has in common with the others
OWN = ("", "")
OF_JEMALLOC = "jemalloc_bg_thd"  # comes with pyarrow, which pandas loads; jemalloc itself takes it over a fork
PARTS = {  # of a task: what a script loads of it
    "train_base": "trainer",
    "train_finetune": "trainer",
    "prepare_data": "preparer",
    "measure_baseline": "baseline_methods",
}


def serve(name: str) -> None:
    """Fork for each request, until none comes for some minutes or something is not as it was."""
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
    """What is asked before each fork: whether code and surroundings are still those that were loaded."""

    def __init__(self, name: str):
        self.name, self.scripts = name, Path(sys.path[0])
        self.code, self.surroundings = code_stamp(self.scripts), surroundings()
        self.idle_seconds = float(os.environ.get(SECONDS) or IDLE_SECONDS)
        self.master = os.environ.get("SLURM_TASK_PID")  # in Slurm it ends with this, whoever else may live on
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
        """Fork for one connection, where all is as it should be; whether this process is of use any longer. A client that
        hears nothing does its job itself."""
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
        except Exception:  # nothing of ours, or no room
            return True
        finally:
            for stream in streams:
                os.close(stream)
        return True

    def end(self, listener: socket.socket) -> None:
        """Take no more; who connected in this very moment is served."""
        with suppress(OSError, place.NotOurs), place.entered() as folder, place.locked(folder):
            if self._inode() == self.place:
                place.forget(folder, self.name)
        listener.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                with listener.accept()[0] as connection:
                    self.answers(connection)

    def _inode(self) -> int:
        """Of our socket, where it is still there: a folder may be removed and made anew."""
        with place.entered() as folder:
            return os.stat(f"{self.name}.socket", dir_fd=folder).st_ino

    def _has_master(self) -> bool:
        return self.master is None or Path("/proc", self.master).exists()

    def _load(self, request: Request) -> bool:
        """Load what a job needs that all of its kind do; a task or model of a user's own never. False where it is no job of ours."""
        script = Path(request["folder"], request["argv"][0])
        if script.stem not in PARTS or Path(os.path.realpath(script.parent)) != self.scripts:
            return False
        from ..tasks.registry import BUILT_IN, TASKS

        known = len(self.loaded)
        with suppress(Exception, SystemExit):  # what is wrong with it the job will say
            task = importlib.import_module(script.stem).cli.task_name(request["argv"][1:])
            part = (task, PARTS[script.stem]) if task in BUILT_IN else OWN
            if part not in self.loaded:
                self.loaded.add(part)
                getattr(TASKS.find(task), PARTS[script.stem])() if part != OWN else importlib.import_module(ENGINE)
                for module in LATE:
                    with suppress(ImportError):  # another torch may have other ones
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
    """What tells other code: of all our files, of this Python, and of the folders where packages are installed."""
    files = [entry for folder in _folders(scripts) for entry in os.scandir(folder) if entry.name.endswith(".py")]
    installed = [Path(sys.executable), *(Path(folder) for folder in sys.path[1:] if os.path.exists(folder))]
    return sorted((str(path), *_version(path.stat())) for path in (*map(Path, files), *installed))


def _folders(top: Path) -> Iterator[str]:
    return (folder for folder, _, _ in os.walk(top) if not folder.endswith("__pycache__"))


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _received(connection: socket.socket, streams: list[int]) -> Request | None:
    """What a client hands over, and its streams; None where it only looked whether somebody listens."""
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
    """After loading: nothing loaded is ever collected, so that pages stay shared, nor taken down by a job, whose it is not; a first
    fork ends the threads of OpenBLAS."""
    gc.collect()
    gc.freeze()
    _in_large_pages()
    for finalizer in weakref.finalize._registry:  # pyright: ignore[reportAttributeAccessIssue]
        finalizer.atexit = False
    if (child := os.fork()) == 0:
        os._exit(0)
    with suppress(ChildProcessError):  # it may be reaped already
        os.waitpid(child, 0)


def _in_large_pages() -> None:
    """Put what was loaded into pages of 2 MB, where the kernel can (Linux 6.1): a fork copies a table of pages, and this makes it short."""
    madvise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights == "rw-p" and name in ([], ["[heap]"]):
            start, end = (int(bound, 16) for bound in span.split("-"))
            start, end = -(-start // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
            if start < end:
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), COLLAPSE)


def _is_safe_to_fork() -> bool:
    """No thread would be missing in the copy, and no GPU is in use."""
    torch = sys.modules.get("torch")
    threads = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
    return len([name for name in threads if name != OF_JEMALLOC]) == 1 and not (torch and torch.cuda.is_initialized())
