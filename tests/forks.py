"""Processes forked from one that has loaded what they would load first: Snakemake, torch. Only imports are shared.

Each call is a process of its own, with its own folder, variables, streams, exit status and end. A server is started by the first test
that asks for it, is shared by all workers of a test session, and ends with the last of them. It learns what to load from what its
children loaded. A test of a cold start, of other code or of other surroundings starts a plain process: see `Project.start`.
"""

import atexit
import contextlib
import fcntl
import functools
import importlib
import marshal
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

NUMBER = struct.Struct("=i")
LOADED = tuple(
    f"{path}{os.sep}" for path in {sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent / "workflow/scripts")}
)
# Variables that may differ from those of the server: nothing that is loaded looks at them while it is loaded.
FREE = (
    "PYTEST_",
    "PWD",
    "OLDPWD",
    "ROOTSTOCK_",
    "SLURM_CONF",
    "PATH",
    "PYTHONPATH",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "KILLS",
)
AT_FIRST: dict[str, str] = {}  # those of this test session, without these


class Forked:
    """What `subprocess.Popen` is of a process that was started: it is ended when nobody holds this any longer."""

    def __init__(self, connection: socket.socket, args: list[str]):
        self.args, self.returncode = args, None
        self._connection = connection
        self.pid = self._number()

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._number())
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _number(self) -> int:
        return NUMBER.unpack(self._connection.recv(NUMBER.size, socket.MSG_WAITALL))[0]


def fork(command: list[str], folder: Path, variables: dict[str, str], stdout: int, stderr: int) -> Forked | None:
    """A process that runs `command`, as the leader of a session; None where the server has other surroundings."""
    kind = "snakemake" if Path(command[0]).name == "snakemake" else "scripts"
    if _fixed(variables) != AT_FIRST:
        return None
    words = marshal.dumps((command if kind == "snakemake" else command[1:], str(folder), variables))
    connection = _connected(kind)
    with open(os.devnull) as nothing:
        socket.send_fds(connection, [NUMBER.pack(len(words))], [nothing.fileno(), stdout, stderr])
    connection.sendall(words)
    return Forked(connection, command)


def _fixed(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not name.startswith(FREE)}


FOLDER: list[int] = []  # the folder of this test session's sockets, open


def _place(name: str) -> str:
    """By the open folder: short, however long its path is."""
    return f"/proc/self/fd/{FOLDER[0]}/{name}"


@functools.cache
def _lease(kind: str) -> socket.socket:
    """A connection that keeps a server alive as long as this process lives; the server is started where there is none."""
    with open(_place(f"{kind}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(_place(f"{kind}.socket"))
        except OSError:
            _start_server(kind)
            connection.connect(_place(f"{kind}.socket"))
    connection.sendall(NUMBER.pack(0))
    return connection


def _start_server(kind: str) -> None:
    Path(_place(f"{kind}.socket")).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, open(_place(f"{kind}.log"), "wb") as log:
        listener.bind(_place(f"{kind}.socket"))
        listener.listen(128)
        command = [sys.executable, "-m", "forks", str(listener.fileno()), kind]
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "pass_fds": [listener.fileno()]}
        subprocess.Popen(command, cwd=Path(__file__).parent, start_new_session=True, **streams)


def begin(folder: Path) -> None:
    """Let the servers of this test session be reached in a folder."""
    FOLDER.append(os.open(folder, os.O_RDONLY))
    AT_FIRST.update(_fixed(os.environ))


def let_go() -> None:
    """This process needs no server any longer."""
    _lease.cache_clear()
    os.close(FOLDER.pop())


def _connected(kind: str) -> socket.socket:
    _lease(kind)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_place(f"{kind}.socket"))
    return connection


class Server:
    """Forks for each request, tells how each child ended, and ends with its last lease."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.leases: set[socket.socket] = set()
        self.children: dict[int, socket.socket] = {}
        self.learnt, self.learns = os.pipe()
        self.woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        os.set_blocking(self.learnt, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes)
        self.unread = b""

    def serve(self) -> None:
        begun = False
        while self.leases or self.children or not begun:
            watched = [self.listener, self.woken, self.learnt, *self.leases, *self.children.values()]
            for ready in select.select(watched, [], [])[0]:
                if ready is self.listener:
                    begun = self._accept() or begun
                elif ready == self.woken:
                    os.read(self.woken, 512)
                elif ready == self.learnt:
                    self._learn()
                else:
                    self._is_gone(ready)
            self._reap()

    def _accept(self) -> bool:
        """Take a lease, or fork; whether it was a lease."""
        connection, _ = self.listener.accept()
        head, streams, _, _ = socket.recv_fds(connection, NUMBER.size, 3)
        (length,) = NUMBER.unpack(head or NUMBER.pack(-1))
        if length == 0:
            self.leases.add(connection)
            return True
        if length > 0:
            words, folder, variables = marshal.loads(connection.recv(length, socket.MSG_WAITALL))
            pid = os.fork()
            if pid == 0:
                raise Child(words, folder, variables, streams)
            self.children[pid] = connection
            connection.sendall(NUMBER.pack(pid))
        for stream in streams:
            os.close(stream)
        return False

    def _is_gone(self, connection: socket.socket) -> None:
        """Who held a lease or a child has ended, and with it the child."""
        self.leases.discard(connection)
        for pid, other in self.children.items():
            if other is connection:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self.children[pid] = socket.socket()
        connection.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self.children.pop(ended[0]) as connection, contextlib.suppress(OSError):
                    connection.sendall(NUMBER.pack(ended[1]))

    def _learn(self) -> None:
        """Load what children loaded that is not loaded here."""
        *names, self.unread = (self.unread + os.read(self.learnt, 65536)).split(b"\n")
        for name in names:
            with contextlib.suppress(Exception):
                importlib.import_module(name.decode())


class Child(BaseException):
    """Raised in a forked process, to leave the server's frames."""

    def __init__(self, words: list[str], folder: str, variables: dict[str, str], streams: list[int]):
        self.words, self.folder, self.variables, self.streams = words, folder, variables, streams


def be(words: list[str], folder: str, variables: dict[str, str], streams: list[int], learns: int) -> int:
    """Become the process that a command line starts, and end as it would: the exit status, negative for a signal."""
    known = set(sys.modules)
    os.setsid()
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
    os.closerange(3, learns)
    os.closerange(learns + 1, 256)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    Path("/proc/self/comm").write_text(Path(words[0]).stem[:15])  # for ps and top
    sys.argv, sys.orig_argv = words, [sys.executable, *words]
    try:
        status = run(words, folder)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    tell(learns, known)
    return status


def run(words: list[str], folder: str) -> int:
    if Path(words[0]).name == "snakemake":
        from snakemake.cli import main

        sys.path[0] = str(Path(words[0]).parent)
        return main() or 0
    sys.path[0] = os.path.join(folder, os.path.dirname(words[0]))
    runpy.run_path(words[0], run_name="__main__")
    return 0


def tell(learns: int, known: set[str]) -> None:
    """What was loaded here and is part of a package or of the library."""
    loaded = [(name, module) for name, module in list(sys.modules.items()) if name not in known]
    named = [name for name, module in loaded if str(getattr(module, "__file__", None)).startswith(LOADED)]
    for name in named:
        os.write(learns, f"{name}\n".encode())


def main() -> None:
    descriptor, kind = sys.argv[1:]
    importlib.import_module({"snakemake": "snakemake.cli", "scripts": "torch"}[kind])
    server = Server(socket.socket(fileno=int(descriptor)))
    try:
        server.serve()
    except Child as child:
        status = be(child.words, child.folder, child.variables, child.streams, server.learns)
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
