"""A lock file in flufl.lock's format, but never read or written through a link or into a file that existed before."""

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

LONGEST = 4096  # bytes read of a lock file; a real one is shorter
LAST = 2**35  # seconds since 1970; later times are cut to this one


class LockFile(Lock):
    """A lock file and, beside it, `card`: the holder's user and machine, and since when it holds the lock. Without a
    card, a lock counts until it is stale. Neither these files nor the folders between `below` and them may be links."""

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
        """The status of the lock file itself, never of a link's target."""
        with entered(self.path.parent, self.below) as folder:
            return os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)

    def told(self) -> dict[str, Any]:
        """The content of the holder's card."""
        return read_json(self.card, self.below)

    def tell(self, about: dict[str, Any] | None) -> None:
        """Write the card, or remove it if `about` is None."""
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(self.card.name, folder)
            if about is not None:
                with new_file(self.card.name, folder) as card:
                    card.write(json.dumps(about).encode())

    def remove_breaker(self) -> None:
        """Remove the file that serialises breaking. Nobody needs it while we hold the lock: a living holder's is never
        broken."""
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(self.breaker.name, folder)

    def claim_of(self, text: str) -> Path | None:
        """The claim that a lock names; None for any other path, because the caller removes it. A claim lies beside its
        lock."""
        name = text.strip().rpartition("/")[2]
        is_claim = name.startswith(f"{self.path.name}{SEP}") and name.isprintable() and len(name.encode()) < 256
        return self.path.with_name(name) if is_claim else None

    def lay_new_claim(self) -> None:
        """Choose a new claim for each attempt: somebody may have put a link under a name that others have seen."""
        self._set_claimfile()

    def remove_claim(self) -> None:
        with suppress(FileNotFoundError), entered(self.path.parent, self.below) as folder:
            remove_file(Path(self.claimfile).name, folder)

    @property
    def details(self) -> tuple[str, int, str]:
        """Host, process and claim of the holder, as in flufl, but not read through a link."""
        try:
            found = parts(self.text())
        except FileNotFoundError:
            found = None
        if found is None:
            raise NotLockedError("Details are unavailable")
        return found

    @property
    def state(self) -> LockState:
        """Unlocked, stale (its process is dead) or unknown (only its time decides)."""
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
        """Write the claim into a new file: flufl's own method would write through a link."""
        with entered(self.path.parent, self.below) as folder:
            remove_file(Path(self.claimfile).name, folder)
            with new_file(Path(self.claimfile).name, folder) as claim:
                claim.write(self.claimfile.encode())

    def _touch(self, filename: str | None = None) -> None:
        """Set the time when the lock ends, on the file itself: flufl's own method would follow a link."""
        ends = time.mktime((self._now() + self.lifetime).timetuple())
        try:
            with entered(self.path.parent, self.below) as folder:
                name = Path(filename or self.claimfile).name
                os.utime(name, (ends, ends), dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise

    def _read(self) -> str | None:
        """Return the claim for flufl, which removes the file of that name if the lock is stale."""
        try:
            claim = self.claim_of(self.text())
        except OSError:
            return None
        return claim and str(Path(self.lockfile).with_name(claim.name))


def parts(text: str) -> tuple[str, int, str] | None:
    """Host, process and claim that a lock's text names; None if it is not a lock."""
    found = text.strip().split(SEP)
    if len(found) != 4 or not found[1].isprintable() or not re.fullmatch("[0-9]{1,7}", found[2]):
        return None
    return found[1], int(found[2]), found[0]
