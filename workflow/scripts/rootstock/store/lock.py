"""One writer an object. flufl.lock does the locking (safe on NFS); here: heartbeat, dead holders, and who it is."""

import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock
from flufl.lock import SEP, Lock, LockError, LockState, NotLockedError, TimeOutError

from ..machine.private import entered, is_alive, new_file, opened, read_json, remove_file, require_regular
from ..machine.this import this_machine, user_name
from ..study.problems import Refusal

LIFETIME = timedelta(seconds=120)  # a holder elsewhere that has not refreshed for so long is taken for dead
POLL = timedelta(seconds=2)
LONGEST = 4096  # bytes of a lock: whatever is longer is none
LAST = 2**35  # seconds since 1970; no date lies later
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
    """Hold the lock file `path`, refreshed by a thread; wait for another holder, at most `wait_seconds`.

    A lock left by a dead process of this machine is broken at once; one of another machine when its heartbeat is stale.
    `lost` is called from the thread where that happened to us: this process slept, and somebody else goes on.
    Raises `Refusal` that names the holder when the time is up, or a link in the place of what would be written.
    """
    lock = _File(path, below)
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
    """Who holds a lock file: host, process, user, since when; None when it is free."""
    lock = _File(path, below)
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
        since = ""  # taken this very moment
    return f"process {pid} on {host}{since} (last sign of life {seen:.0f} s ago)"


def is_held(path: Path, below: Path | None = None) -> bool:
    """Whether a living process holds the lock file."""
    lock = _File(path, below)
    try:
        lock.refuse_links()
        is_there = lock.state is not LockState.unlocked and not _is_dead(lock)
        return is_there and time.time() < lock.status().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False


class _File(Lock):
    """A lock file, and beside it `card`, where its holder says who it is, since when, and on which machine; without it a
    lock counts until it is stale. None of them may be a link, nor a folder between `below` and them."""

    def __init__(self, path: Path, below: Path | None):
        self.path, self.below = path, below or path.parent
        self.card = path.with_name(f"{path.name}.holder")
        self.breaker = path.with_name(f"{path.name}.{socket.gethostname()}.break")
        super().__init__(str(path.parent.resolve() / path.name), lifetime=LIFETIME)

    def refuse_links(self, make: bool = False) -> None:
        with entered(self.path.parent, self.below, make) as folder:
            for path in (self.path, self.card, self.breaker):
                require_regular(path, folder)

    def text(self) -> str:
        with opened(self.path, self.below) as file:
            return file.read(LONGEST).decode(errors="replace")

    def status(self) -> os.stat_result:
        """Of the lock file itself, never of what a link points to."""
        with entered(self.path.parent, self.below) as folder:
            return os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)

    def told(self) -> dict[str, Any]:
        """What the holder says of itself."""
        return read_json(self.card, self.below)

    def tell(self, about: dict[str, Any] | None) -> None:
        """Say who holds it, or take that back."""
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(self.card.name, folder)
            if about is not None:
                with new_file(self.card.name, folder) as card:
                    card.write(json.dumps(about).encode())

    def remove_breaker(self) -> None:
        """Nobody breaks a lock that is held by a living process, so nobody needs the file while we are that."""
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(self.breaker.name, folder)

    def claim_of(self, text: str) -> Path | None:
        """The claim that a lock names. It lies beside the lock: whatever else stands there, nothing else is removed for it."""
        name = text.strip().rpartition("/")[2]
        is_claim = name.startswith(f"{self.path.name}{SEP}") and name.isprintable() and len(name.encode()) < 256
        return self.path.with_name(name) if is_claim else None

    def lay_new_claim(self) -> None:
        """Every attempt has a claim of its own: a name that others have seen may be taken by a link of theirs."""
        self._set_claimfile()

    def remove_claim(self) -> None:
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(Path(self.claimfile).name, folder)

    @property
    def details(self) -> tuple[str, int, str]:
        """Host, process and file of the holder, as flufl reads them, but through no link."""
        try:
            found = _parts(self.text())
        except FileNotFoundError:
            found = None
        if found is None:
            raise NotLockedError("Details are unavailable")
        return found

    @property
    def state(self) -> LockState:
        """Unlocked, stale or, when only its time tells, unknown."""
        try:
            found = _parts(self.text())
        except FileNotFoundError:
            return LockState.unlocked
        is_gone = found is not None and found[0] == self.hostname and not is_alive(found[1])
        return LockState.stale if is_gone else LockState.unknown

    @property
    def expiration(self) -> datetime:
        return datetime.fromtimestamp(min(max(self.status().st_mtime, 0), LAST))

    @property
    def _linkcount(self) -> int:
        try:
            return self.status().st_nlink
        except FileNotFoundError:
            return -1

    def _write(self) -> None:
        """The claim, in a file that was not there before: flufl's own would write through a link."""
        with entered(self.path.parent, self.below) as folder:
            remove_file(Path(self.claimfile).name, folder)
            with new_file(Path(self.claimfile).name, folder) as claim:
                claim.write(self.claimfile.encode())

    def _touch(self, filename: str | None = None) -> None:
        """Set the time when the lock ends, on the file itself: flufl's own would follow a link."""
        ends = time.mktime((self._now() + self.lifetime).timetuple())
        try:
            with entered(self.path.parent, self.below) as folder:
                name = Path(filename or self.claimfile).name
                os.utime(name, (ends, ends), dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise

    def _read(self) -> str | None:
        """As flufl reads it, which removes the claim that is named there when the lock is stale."""
        try:
            claim = self.claim_of(self.text())
        except OSError:
            return None
        return claim and str(Path(self.lockfile).with_name(claim.name))


def _parts(text: str) -> tuple[str, int, str] | None:
    """Host, process and file that a lock names; None where it is no lock."""
    parts = text.strip().split(SEP)
    if len(parts) != 4 or not parts[1].isprintable() or not re.fullmatch("[0-9]{1,7}", parts[2]):
        return None
    return parts[1], int(parts[2]), parts[0]


def _acquire(lock: _File, wait_seconds: float | None, say: Callable[[str], None]) -> None:
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


def _attempt(lock: _File, timeout: timedelta) -> bool:
    """Whether we hold the lock now; where not, nothing of ours stays there."""
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


def _release(lock: _File, say: Callable[[str], None]) -> None:
    """Give the lock back, whatever was put beside it meanwhile: what was trained under it is kept."""
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
    """Signs of life of a lock whose time lies in the future, by a clock that went wrong: flufl would wait for that time. A
    living holder sets the time anew again and again; one that does not for `LIFETIME`, as our clock counts, is dead."""

    def __init__(self):
        self.seen, self.since = 0.0, time.monotonic()

    def has_stopped(self, lock: _File) -> bool:
        try:
            beat = lock.status().st_mtime
        except FileNotFoundError:
            return False
        if beat != self.seen:
            self.seen, self.since = beat, time.monotonic()
        is_ahead = beat > time.time() + 2 * LIFETIME.total_seconds()
        return is_ahead and time.monotonic() - self.since > LIFETIME.total_seconds()


def _break_if(lock: _File, is_dead: Callable[[], bool]) -> None:
    """Remove the lock of a process that is gone; checked under a local lock, so only one remover acts."""
    if not is_dead():
        return
    with FileLock(lock.breaker):
        if is_dead():
            claim = lock.claim_of(lock.text())
            with entered(lock.path.parent, lock.below) as folder:
                remove_file(lock.path.name, folder)
                if claim:
                    remove_file(claim.name, folder)


def _is_dead(lock: _File) -> bool:
    """A lock of a process of this machine that is gone, or an old file that is no lock at all (a full disk leaves empty ones).

    The lock alone cannot tell machines apart: where a host's name stands for 127.0.0.1 all are called localhost.
    """
    try:
        if lock.state is LockState.stale and _machine_of(lock) == this_machine():
            return True
        is_no_lock = _parts(lock.text()) is None
        return is_no_lock and time.time() - lock.status().st_mtime > LIFETIME.total_seconds()
    except FileNotFoundError:
        return False


def _refresh(
    lock: _File, claim: str, stop: threading.Event, say: Callable[[str], None], lost: Callable[[], None]
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


def _machine_of(lock: _File) -> str | None:
    """The machine of a lock's holder; None in the moment before it has said so."""
    try:
        return lock.told()["machine"]
    except UNREADABLE:
        return None
