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
from flufl.lock import SEP, Lock, LockError, LockState, NotLockedError, TimeOutError

from ..study.problems import Refusal

LIFETIME = timedelta(seconds=120)  # a holder on another host that has not refreshed for so long is taken for dead
POLL = timedelta(seconds=2)


@contextmanager
def hold(path: Path, *, wait_seconds: float | None = None, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold the lock file `path`, refreshed by a thread; wait for another holder, at most `wait_seconds`.

    A lock left by a dead process of this host is broken at once; one of another host when its heartbeat is stale.
    Raises `Refusal` that names the holder when the time is up.
    """
    lock = Lock(str(path.resolve()), lifetime=LIFETIME)
    _acquire(lock, path, wait_seconds, say)
    stop = threading.Event()
    beat = threading.Thread(target=_refresh, args=(lock, stop, say), daemon=True)
    beat.start()
    card = _card(path)
    try:
        card.write_text(json.dumps({"user": user_name(), "since": time.time()}))
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
        return lock.state not in (LockState.unlocked, LockState.stale) and time.time() < path.stat().st_mtime
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
    """A lock of a process that is gone, or an old file that is no lock at all (a full disk leaves empty ones)."""
    try:
        if lock.state is LockState.stale:
            return True
        is_no_lock = path.read_text().count(SEP) != 3
        return is_no_lock and time.time() - path.stat().st_mtime > LIFETIME.total_seconds()
    except FileNotFoundError:
        return False


def _refresh(lock: Lock, stop: threading.Event, say: Callable[[str], None]) -> None:
    while not stop.wait(LIFETIME.total_seconds() / 6):
        try:
            lock.refresh(unconditionally=True)
        except (NotLockedError, OSError) as error:
            say(f"the lock could not be refreshed ({error}); trying again")


def _card(path: Path) -> Path:
    """Where a holder says who it is and since when; only to be shown, the lock does not depend on it."""
    return path.with_name(f"{path.name}.holder")


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
