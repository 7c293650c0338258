"""Runs in one project folder. Runs that write the same files take turns, because Snakemake deletes what it is about to
make: a base model would be missing for a moment while another run's fine-tunes begin. Other runs go side by side.

Snakemake's own lock would refuse the second run, and stays after a kill; the profile turns it off.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..store.files import write_json
from ..store.lock import hold, holder, is_held
from ..study.problems import Refusal

FOLDER = Path(".rootstock/runs")


@dataclass(frozen=True)
class Turn:
    """The turn of one study's run: the files that it writes and reads, and its start in seconds since the epoch."""

    study: str
    written: frozenset[str]
    read: frozenset[str]
    since: float = 0.0

    def collides(self, other: "Turn") -> bool:
        """Whether the two runs must not overlap; runs of the same study never may."""
        touched = other.written | other.read
        return self.study == other.study or not (
            self.written.isdisjoint(touched) and other.written.isdisjoint(self.read)
        )


def turn_of(study: str, jobs: Iterable[Any]) -> Turn:
    """The turn of a run that is about to start these Snakemake jobs."""
    jobs = list(jobs)
    written = frozenset(str(file) for job in jobs for file in job.output)
    return Turn(study, written, frozenset(str(file) for job in jobs for file in job.input))


def take_turn(
    turn: Turn,
    say: Callable[[str], None],
    wait_seconds: float | None = None,
    folder: Path = FOLDER,
    poll_seconds: float = 1,
    beside: Collection[str] = (),
) -> ExitStack:
    """Wait until no colliding run is under way, then take the turn; close the returned stack when the run ends. Do not
    wait for killed runs or for studies `beside` it in the same Snakemake run. Raise `Refusal` after `wait_seconds`."""
    deadline, told = None if wait_seconds is None else time.monotonic() + wait_seconds, ""
    while True:
        with hold(folder / "turn", say=lambda _: None):
            others = (other for other in _under_way(folder) if other.study not in beside)
            other = next((other for other in others if turn.collides(other)), None)
            if other is None:
                return _begun(turn, say, folder)
        who = f"the run of {other.study} in this folder ({holder(_lock(other.study, folder)) or 'just ended'})"
        if deadline is not None and time.monotonic() > deadline:
            raise Refusal(f"{who} takes longer than {wait_seconds:g} s; wait for it or stop it")
        if told != other.study:
            say(f"waiting for {who}, which makes what this run needs or makes too")
        told = other.study
        time.sleep(poll_seconds)


def is_under_way(study: str, folder: Path = FOLDER) -> bool:
    """Whether a run of a study is under way in this project folder."""
    return is_held(_lock(study, folder))


def under_way(study: str, folder: Path = FOLDER) -> Turn | None:
    """The run of a study that is under way in this project folder."""
    return _read(folder / f"{study}.json") if is_under_way(study, folder) else None


def _begun(turn: Turn, say: Callable[[str], None], folder: Path) -> ExitStack:
    content = {"study": turn.study, "written": sorted(turn.written), "read": sorted(turn.read), "since": time.time()}
    write_json(folder / f"{turn.study}.json", content)
    held = ExitStack()
    held.enter_context(hold(_lock(turn.study, folder), say=say))
    return held


def _under_way(folder: Path) -> Iterator[Turn]:
    for record in sorted(folder.glob("*.json")):
        if turn := under_way(record.stem, folder):
            yield turn


def _read(record: Path) -> Turn | None:
    """The turn in a record; None if the record is not there."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return Turn(
            content["study"], frozenset(content["written"]), frozenset(content["read"]), content.get("since", 0.0)
        )
    except FileNotFoundError:
        return None


def _lock(study: str, folder: Path) -> Path:
    return folder / f"{study}.lock"
