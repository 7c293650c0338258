"""The file of a lock, as flufl.lock reads and writes it, but through no link and in no file that was there before."""

import errno
import json
import os
import re
import socket
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from flufl.lock import SEP, Lock, LockState, NotLockedError

from ..machine.private import entered, is_alive, new_file, opened, read_json, remove_file, require_regular

LONGEST = 4096  # bytes of a lock: whatever is longer is none
LAST = 2**35  # seconds since 1970; no date lies later


class LockFile(Lock):
    """A lock file, and beside it `card`, where its holder says who it is, since when, and on which machine; without it a
    lock counts until it is stale. None of them may be a link, nor a folder between `below` and them."""

    def __init__(self, path: Path, below: Path | None, lifetime: timedelta):
        self.path, self.below = path, below or path.parent
        self.card = path.with_name(f"{path.name}.holder")
        self.breaker = path.with_name(f"{path.name}.{socket.gethostname()}.break")
        super().__init__(str(path.parent.resolve() / path.name), lifetime=lifetime)

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
            found = parts(self.text())
        except FileNotFoundError:
            found = None
        if found is None:
            raise NotLockedError("Details are unavailable")
        return found

    @property
    def state(self) -> LockState:
        """Unlocked, stale or, when only its time tells, unknown."""
        try:
            found = parts(self.text())
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


def parts(text: str) -> tuple[str, int, str] | None:
    """Host, process and file that a lock names; None where it is no lock."""
    found = text.strip().split(SEP)
    if len(found) != 4 or not found[1].isprintable() or not re.fullmatch("[0-9]{1,7}", found[2]):
        return None
    return found[1], int(found[2]), found[0]
