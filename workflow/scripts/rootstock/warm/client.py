"""The client: a job's command first asks the warm process to fork a process for the job, passes signals on to it and ends as it ended.

In any unusual case the command does the job itself. Stdlib only, and little of it: a warm job pays for each import.
"""

import marshal
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from types import FrameType

from .place import NotOurs, connected, entered, listening, locked, name_of
from .surroundings import Request, close_from, handed_over

IN_SLURM = "ROOTSTOCK_WARM_IN_SLURM"
# Workers of torchrun start cold, and so do jobs in containers, because each container is a world of its own.
ALONE = {"RANK", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"}
BEGUN, ENDED = b"b", b"e"  # what the supervisor reports; a wait status follows ENDED
STATUS = struct.Struct("=i")
BEGIN_SECONDS = 60  # the first job waits for torch to load; after this time the client does the job itself
SERVER = "warm.py"
OWN = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGPIPE}
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
PASSED_ON = signal.valid_signals() - OWN - FAULTS


def run_warm() -> None:
    """Let a forked process do the job and end as it ended; return if this process has to do the job itself."""
    if not _is_wanted():
        return
    try:
        connection = _connection(handed := handed_over())
    except NotOurs as reason:
        print(f"not started warm: {reason}", file=sys.stderr)
        return
    except OSError:
        return
    if connection:
        with connection:
            _stand_in(connection, handed)


def _is_wanted() -> bool:
    """Whether `--warm` is set, as in the workflow's rules; under Slurm only if several jobs share one allocation."""
    flags = [word for word in sys.argv if word in ("--warm", "--no-warm")]
    is_plain = sys.orig_argv[1:] == sys.argv and sys.platform == "linux" and ALONE.isdisjoint(os.environ)
    may = "SLURM_JOB_ID" not in os.environ or IN_SLURM in os.environ
    return is_plain and may and flags[-1:] == ["--warm"]


def _connection(handed: Request) -> socket.socket | None:
    """A connection to the matching warm process, started if necessary; None if enough others run already."""
    for descriptor in (0, 1, 2):
        os.fstat(descriptor)  # a closed one cannot be handed over
    name = name_of(handed["surroundings"])
    with entered() as folder:
        if connection := connected(folder, name):
            return connection
        with locked(folder):
            if connection := connected(folder, name):
                return connection  # another client has started it meanwhile
            listener = listening(folder, name)
            if listener is None:
                return None
            with listener:
                _start(listener, folder, name)
        return connected(folder, name)


def _start(listener: socket.socket, folder: int, name: str) -> None:
    """Start a warm process on a socket that already accepts connections. It keeps none of our descriptors open."""
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    program = os.path.join(os.path.realpath(sys.path[0]), SERVER)
    if starter := os.fork():
        os.waitpid(starter, 0)
        os.close(log)
        return
    try:
        if os.fork() == 0:  # forked twice, so that the warm process outlives the job that starts it
            os.setsid()
            os.chdir("/")
            for source, target in ((os.open(os.devnull, os.O_RDWR), 0), (log, 1), (log, 2), (listener.fileno(), 3)):
                os.dup2(source, target)
            close_from(4)
            os.execv(sys.executable, [sys.executable, program, name])
    finally:
        os._exit(1)


def _stand_in(connection: socket.socket, handed: Request) -> None:
    """Hand the job over, wait, and end as it ended. Return if it did not begin or its end is unknown: doing it again is
    safe, because a published result is complete and an unfinished training resumes from its checkpoint."""
    with PassedOn(connection) as passed, suppress(OSError, struct.error):
        connection.settimeout(BEGIN_SECONDS)
        words = marshal.dumps(handed)
        socket.send_fds(connection, [STATUS.pack(len(words))], [0, 1, 2])
        connection.sendall(words)
        if connection.recv(1) == BEGUN:
            connection.settimeout(None)
            if connection.recv(1) == ENDED:
                passed.end_as(STATUS.unpack(connection.recv(STATUS.size, socket.MSG_WAITALL))[0])


class PassedOn:
    """Pass each catchable signal on to the job. If this process does the job after all, it obeys the signals that came."""

    def __init__(self, connection: socket.socket):
        self.connection, self.came, self.before = connection, [], {}

    def __enter__(self) -> "PassedOn":
        for number in PASSED_ON:
            if (before := signal.getsignal(number)) != signal.SIG_IGN:
                self.before[number] = before
                signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)
        for number in self.came:
            signal.raise_signal(number)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self.came.append(number)
        with suppress(OSError):
            self.connection.send(bytes([number]))
        if number == signal.SIGTSTP:
            signal.raise_signal(signal.SIGSTOP)

    def end_as(self, status: int) -> None:
        """End with the job's wait status; if a signal ended the job, end by the same signal."""
        if os.WIFSIGNALED(status):
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
            os.kill(os.getpid(), os.WTERMSIG(status))
        os._exit(os.waitstatus_to_exitcode(status))
