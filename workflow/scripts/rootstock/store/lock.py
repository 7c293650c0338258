"""One writer an object. flufl.lock does the locking (safe on NFS); here: heartbeat, dead holders, and who it is."""

import getpass
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock
from flufl.lock import SEP, Lock, LockError, LockState, TimeOutError

from ..study.problems import Refusal
from .machine import this_machine

LIFETIME = timedelta(seconds=120)  # a holder elsewhere that has not refreshed for so long is taken for dead
POLL = timedelta(seconds=2)


@contextmanager
def hold(
    path: Path,
    *,
    wait_seconds: float | None = None,
    say: Callable[[str], None] = print,
    lost: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lock file `path`, refreshed by a thread; wait for another holder, at most `wait_seconds`.

    A lock left by a dead process of this machine is broken at once; one of another machine when its heartbeat is stale.
    `lost` is called from the thread where that happened to us: this process slept, and somebody else goes on.
    Raises `Refusal` that names the holder when the time is up.
    """
    lock = Lock(str(path.resolve()), lifetime=LIFETIME)
    _acquire(lock, path, wait_seconds, say)
    stop = threading.Event()
    beat = threading.Thread(target=_refresh, args=(lock, path, path.read_text(), stop, say, lost), daemon=True)
    beat.start()
    card = _card(path)
    try:
        card.write_text(json.dumps({"user": user_name(), "since": time.time(), "machine": this_machine()}))
        yield
    finally:
        stop.set()
        beat.join()
        card.unlink(missing_ok=True)
        lock.unlock(unconditionally=True)


def holder(path: Path) -> str | None:
    """Who holds a lock file: host, process, user, since when; None when it is free."""
    try:
        host, pid, _ = Lock(str(path.resolve())).details
        seen = max(0, time.time() - path.stat().st_ctime)
    except (LockError, OSError):
        return None
    try:
        told = json.loads(_card(path).read_text())
        since = f" of {told['user']}, since {datetime.fromtimestamp(told['since']):%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError, KeyError, TypeError):
        since = ""  # taken this very moment
    return f"process {pid} on {host}{since} (last sign of life {seen:.0f} s ago)"


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file."""
    lock = Lock(str(path.resolve()))
    try:
        is_there = lock.state is not LockState.unlocked and not _is_dead(lock, path)
        return is_there and time.time() < path.stat().st_mtime
    except FileNotFoundError:
        return False


def _acquire(lock: Lock, path: Path, wait_seconds: float | None, say: Callable[[str], None]) -> None:
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    told = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # whoever held it may have removed the object
        _break_if_dead(lock, path)
        try:
            lock.lock(timeout=timedelta(0) if not told else POLL)
            return
        except TimeOutError:
            who = holder(path)
        if not told:
            say(f"waiting for {who or f'whoever made {path}'}, which is training the same model")
        told = True
        if deadline is not None and time.monotonic() > deadline:
            raise Refusal(
                f"{path}: held by {who or 'another process'} for longer than {wait_seconds:g} s; wait for it or stop it"
            )


def _break_if_dead(lock: Lock, path: Path) -> None:
    """Remove the lock of a process of this host that is gone; checked under a local lock, so only one remover acts."""
    if not _is_dead(lock, path):
        return
    with FileLock(f"{path}.{socket.gethostname()}.break"):
        if _is_dead(lock, path):
            claim = path.read_text().strip()
            path.unlink(missing_ok=True)
            if claim:
                Path(claim).unlink(missing_ok=True)


def _is_dead(lock: Lock, path: Path) -> bool:
    """A lock of a process of this machine that is gone, or an old file that is no lock at all (a full disk leaves empty ones).

    The lock alone cannot tell machines apart: where a host's name stands for 127.0.0.1 all are called localhost.
    """
    try:
        if lock.state is LockState.stale and _machine_of(path) == this_machine():
            return True
        is_no_lock = path.read_text().count(SEP) != 3
        return is_no_lock and time.time() - path.stat().st_mtime > LIFETIME.total_seconds()
    except FileNotFoundError:
        return False


def _refresh(
    lock: Lock, path: Path, claim: str, stop: threading.Event, say: Callable[[str], None], lost: Callable[[], None]
) -> None:
    while not stop.wait(LIFETIME.total_seconds() / 6):
        try:
            if path.read_text() != claim:
                raise FileNotFoundError
            lock.refresh(unconditionally=True)  # flufl's own check counts links, which sshfs does not
        except FileNotFoundError:
            say(f"the lock was taken over by {holder(path) or 'somebody'}, as this process gave no sign of life")
            lost()
            return
        except OSError as error:
            say(f"the lock could not be refreshed ({error}); trying again")


def _machine_of(path: Path) -> str | None:
    """The machine of a lock's holder; None in the moment before it has said so."""
    try:
        return json.loads(_card(path).read_text())["machine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _card(path: Path) -> Path:
    """Where a holder says who it is, since when, and on which machine; without it a lock counts until it is stale."""
    return path.with_name(f"{path.name}.holder")


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
