"""One job forked from the warm process: its supervisor, which acts for the client, and the job itself.

The supervisor is the job's parent; it does not end with the warm process. It passes signals on, ends the job when the client is gone,
and tells the client how the job ended. If the supervisor is killed, the job ends too.
"""

import atexit
import ctypes
import importlib
import io
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import cast

from .client import BEGUN, ENDED, PASSED_ON, STATUS
from .surroundings import Request, take_over

# Signals that terminals send go to all processes of a job, others only to the process whose id a user names.
OF_TERMINALS = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT}
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def supervise(connection: socket.socket, streams: list[int], request: Request, before: frozenset[str]) -> None:
    """Fork the job, and stay until it ends."""
    os.setsid()
    _name_process("supervisor")
    ended, tell = os.pipe()
    _ignore_signals()  # Slurm sends them to each process of a job; the supervisor passes on those that the client gets
    _be_told_of_children(tell)
    supervisor = os.getpid()
    job = os.fork()
    if job == 0:
        _be_the_job(connection, streams, [ended, tell], request, before, supervisor)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(job, job)  # parent and child both do it, because either may come first
    _close(streams)
    status = _waited(connection, ended, job)
    with suppress(OSError):
        connection.sendall(ENDED + STATUS.pack(status))
    os._exit(0)


def _ignore_signals() -> None:
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)


def _be_told_of_children(tell: int) -> None:
    """Write a byte to the pipe `tell` when a child ends."""
    os.set_blocking(tell, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _waited(connection: socket.socket, ended: int, job: int) -> int:
    """The wait status of the job. Each byte on the connection is the number of a signal for it; a closed one means that the
    client is gone."""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(connection, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ended in ready:
            os.read(ended, 64)
            found, status = os.waitpid(job, os.WNOHANG)
            if found:
                return status
        elif not _passed_on(connection, job):
            poll.unregister(connection)


def _passed_on(connection: socket.socket, job: int) -> bool:
    """Send the job the signals that its client got. If the client is gone, kill the job and return False."""
    try:
        numbers = connection.recv(64)
    except ConnectionError:
        numbers = b""
    for number in numbers or [signal.SIGKILL]:
        _send(job, signal.SIGSTOP if number == signal.SIGTSTP else number, whole=not numbers)
    return bool(numbers)


def _send(job: int, number: int, whole: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if whole or number in OF_TERMINALS or number == signal.SIGSTOP:
            os.killpg(job, number)
        else:
            os.kill(job, number)


def _be_the_job(
    connection: socket.socket,
    streams: list[int],
    pipe: list[int],
    request: Request,
    before: frozenset[str],
    supervisor: int,
) -> None:
    """Become the process that a cold command would be, and end as it would."""
    try:
        signal.set_wakeup_fd(-1)
        with suppress(PermissionError):
            os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        _take_streams(streams)
        take_over(request, before)
        connection.sendall(BEGUN)
        connection.close()
        _close(pipe)
    except (OSError, ValueError):
        os._exit(1)  # the client has not heard of the job and does it itself
    os._exit(_ended(Path(request["argv"][0]).stem))


def _take_streams(streams: list[int]) -> None:
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
        os.close(stream)
    cast(io.TextIOWrapper, sys.stdout).reconfigure(line_buffering=os.isatty(1))


def _ended(script: str) -> int:
    """Run a script's main as the script does, then Python's last steps except the costly one: freeing memory piece by piece."""
    _as_newly_started(script)
    module = sys.modules["__main__"]
    try:
        module.cli.run(module.main)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    if status < 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status & 0xFF


def _as_newly_started(script: str) -> None:
    """Give the fork what a new process has: its own `__main__`, and fresh random seeds."""
    sys.modules["__main__"] = importlib.import_module(script)
    sys.modules["__main__"].__file__ = os.path.join(os.getcwd(), sys.argv[0])
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
    _name_process(script)


def _name_process(name: str) -> None:
    """Set the name that `ps -o comm` and `top` show."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
