"""One writer per object. flufl.lock does the locking (safe on NFS); this module adds heartbeat, dead holders and
identity."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock
from flufl.lock import LockError, LockState, TimeOutError

from ..machine.private import entered, remove_file
from ..machine.this import this_machine, user_name
from ..study.problems import Refusal, on_one_line
from .lock_file import LockFile, parts

LIFETIME = timedelta(seconds=120)  # a holder on another machine that does not refresh for so long counts as dead
POLL = timedelta(seconds=2)
UNREADABLE = (OSError, ValueError, KeyError, TypeError, OverflowError, Refusal)


@contextmanager
def hold(
    path: Path,
    below: Path | None = None,
    *,
    wait_seconds: float | None = None,
    say: Callable[[str], None] = print,
    lost: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold the lock file `path`, refreshed by a thread. Wait for another holder, at most `wait_seconds`.

    A lock of a dead process of this machine is broken at once, one of another machine when its heartbeat is stale.
    The thread calls `lost` if this process loses the lock: it slept, and another process took over.
    Raise `Refusal` with the holder's name when the time is up, or with the path of a link that is in the way.
    """
    lock = LockFile(path, below, LIFETIME)
    _acquire(lock, wait_seconds, say)
    stop = threading.Event()
    beat = threading.Thread(target=_refresh, args=(lock, lock.claimfile, stop, say, lost), daemon=True)
    beat.start()
    try:
        lock.tell({"user": user_name(), "since": time.time(), "machine": this_machine()})
        yield
    finally:
        stop.set()
        beat.join()
        _release(lock, say)


def holder(path: Path, below: Path | None = None) -> str | None:
    """The holder of a lock file in words: host, process, user, since when. None if the lock is free."""
    lock = LockFile(path, below, LIFETIME)
    try:
        lock.refuse_links()
        host, pid, _ = lock.details
        seen = max(0, time.time() - lock.status().st_ctime)
    except (LockError, *UNREADABLE):
        return None
    try:
        told = lock.told()
        since = f" of {told['user']}, since {datetime.fromtimestamp(told['since']):%Y-%m-%d %H:%M:%S}"
    except UNREADABLE:
        since = ""  # the lock was taken a moment ago
    return on_one_line(f"process {pid} on {host}{since} (last sign of life {seen:.0f} s ago)")


def is_held(path: Path, below: Path | None = None) -> bool:
    """Whether a living process holds the lock file."""
    lock = LockFile(path, below, LIFETIME)
    try:
        lock.refuse_links()
        is_there = lock.state is not LockState.unlocked and not _is_dead(lock)
        return is_there and time.time() < lock.status().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False


def _acquire(lock: LockFile, wait_seconds: float | None, say: Callable[[str], None]) -> None:
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    told, pulse = False, _Pulse()
    while True:
        lock.refuse_links(make=True)  # whoever held it may have removed the object
        _break_if(lock, lambda: _is_dead(lock) or pulse.has_stopped(lock))
        if _attempt(lock, POLL if told else timedelta(0)):
            return
        who = holder(lock.path, lock.below)
        if not told:
            say(f"waiting for {who or f'whoever made {lock.path}'}, which is training the same model")
        told = True
        if deadline is not None and time.monotonic() > deadline:
            who = who or "another process"
            raise Refusal(f"{lock.path}: held by {who} for longer than {wait_seconds:g} s; wait for it or stop it")


def _attempt(lock: LockFile, timeout: timedelta) -> bool:
    """Try to take the lock. Return whether we hold it; if not, remove our claim."""
    lock.lay_new_claim()
    try:
        lock.lock(timeout=timeout)
        return True
    except (TimeOutError, FileNotFoundError):  # or somebody removed the claim
        lock.remove_claim()
        return False
    except BaseException:
        lock.remove_claim()
        raise


def _release(lock: LockFile, say: Callable[[str], None]) -> None:
    """Release the lock. A fault here, such as a link put beside it, must not lose the finished training."""
    try:
        try:
            lock.tell(None)
        finally:
            try:
                lock.remove_breaker()
            finally:
                lock.unlock(unconditionally=True)
    except (OSError, Refusal) as reason:
        say(f"{lock.path}: not tidied up ({reason})")
    finally:
        lock.remove_claim()


class _Pulse:
    """Watches a lock whose time lies in the future because a clock was wrong: flufl would wait until that time.

    A living holder keeps renewing the time. One that does not for `LIFETIME` by our clock is dead."""

    def __init__(self):
        self.seen, self.since = 0.0, time.monotonic()

    def has_stopped(self, lock: LockFile) -> bool:
        try:
            beat = lock.status().st_mtime
        except FileNotFoundError:
            return False
        if beat != self.seen:
            self.seen, self.since = beat, time.monotonic()
        is_ahead = beat > time.time() + 2 * LIFETIME.total_seconds()
        return is_ahead and time.monotonic() - self.since > LIFETIME.total_seconds()


def _break_if(lock: LockFile, is_dead: Callable[[], bool]) -> None:
    """Remove the lock of a dead process. The check runs under a local lock, so that only one process removes it."""
    if not is_dead():
        return
    with FileLock(lock.breaker):
        if is_dead():
            claim = lock.claim_of(lock.text())
            with entered(lock.path.parent, lock.below) as folder:
                remove_file(lock.path.name, folder)
                if claim:
                    remove_file(claim.name, folder)


def _is_dead(lock: LockFile) -> bool:
    """Whether the lock's process on this machine is dead, or the file is old and not a lock (a full disk leaves empty
    ones).

    The lock alone cannot distinguish machines: those whose host name resolves to 127.0.0.1 are all called localhost.
    """
    try:
        if lock.state is LockState.stale and _machine_of(lock) == this_machine():
            return True
        is_no_lock = parts(lock.text()) is None
        return is_no_lock and time.time() - lock.status().st_mtime > LIFETIME.total_seconds()
    except FileNotFoundError:
        return False


def _refresh(
    lock: LockFile, claim: str, stop: threading.Event, say: Callable[[str], None], lost: Callable[[], None]
) -> None:
    while not stop.wait(LIFETIME.total_seconds() / 6):
        try:
            if lock.text() != claim:
                raise FileNotFoundError
            lock.refresh(unconditionally=True)  # flufl's own check counts links, which sshfs does not
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, Refusal):
            holds = holder(lock.path, lock.below) or "somebody"
            say(f"the lock was taken over by {holds}, as this process gave no sign of life")
            lost()
            return
        except OSError as error:
            say(f"the lock could not be refreshed ({error}); trying again")


def _machine_of(lock: LockFile) -> str | None:
    """The machine of a lock's holder; None until the holder has written its card."""
    try:
        return lock.told()["machine"]
    except UNREADABLE:
        return None
