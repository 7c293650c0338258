"""How far a study is, from files alone: the plan, the store, the jobs' records and logs. Light: no torch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.epoch_line import last_epoch
from ..job.records import FOLDER, places, read_record, record_path
from ..store.lock import is_held
from ..store.objects import stored
from ..study import paths
from ..study.plan import Plan
from ..study.problems import EXIT_INTERRUPTED
from ..study.told import printable
from .counting import HANDED_BACK, Count
from .turns import Turn, under_way


@dataclass(frozen=True)
class JobStatus:
    """One training. `state` is waiting, handed back (waiting, but the store has it), running, done, failed, interrupted
    (killed, to be resumed), or not begun, if it has not run and no run under way is going to make it."""

    name: str
    phase: str
    state: str
    log: Path
    record: dict[str, Any]
    record_file: Path
    lock: Path

    @property
    def where(self) -> str:
        return printable(", ".join(places(self.record))) if self.record else ""

    @property
    def seconds(self) -> float:
        """How long the job has run so far, or ran until its end."""
        return (self.record.get("ended") or time.time()) - self.record["started"] if self.record else 0.0

    def progress(self) -> str:
        """The last epoch and its loss, from the log."""
        return printable(last_epoch(_read(self.log)))

    def reason(self) -> str:
        """Why the job failed, in one line: its recorded reason, or else the last line of its log."""
        return (recorded_reason(self.record) or self.last_lines(1) or ["it left no word"])[-1]

    def last_lines(self, count: int = 3) -> list[str]:
        return last_lines(self.log, count)


def study_status(plan: Plan, records: Path = FOLDER, has_ended: bool = False) -> list[JobStatus]:
    """The status of each training of a plan, base models first. `has_ended`: its run has ended but keeps its turn."""
    run = None if has_ended else under_way(plan.study.name)
    return [_status(plan, asked, run, records) for asked in _asked(plan)]


def counted(jobs: list[JobStatus], count: Count | None = None) -> Count:
    """Add the trainings of a study to `count` or to a new one. Those that the store handed back add no duration."""
    count = count or Count()
    for job in jobs:
        count.note(job.name, job.phase, job.state, job.record.get("started"))
        if job.state == "done" and (seconds := seconds_of_training(job.record)) is not None:
            count.took(job.phase, seconds)
    return count


def seconds_of_training(record: dict[str, Any]) -> float | None:
    """The duration of a job that trained to the end; None for any other job and for one that the store handed back."""
    is_whole = record.get("trains") and record.get("returncode") == 0 and record.get("ended") and record.get("started")
    return record["ended"] - record["started"] if is_whole else None


def recorded_reason(record: dict[str, Any]) -> list[str]:
    """The last line that a failed job recorded about its failure; empty if it recorded nothing."""
    return [printable(line) for line in f"{record.get('stderr', '')}".strip().splitlines()[-1:]]


def follow(job: JobStatus, poll_seconds: float = 0.5) -> Iterator[str]:
    """Yield the lines of a job's log, old and new, until the job ends."""
    position, partial = 0, ""
    while True:
        running = is_running(job)
        text = _read(job.log)
        position = 0 if len(text) < position else position  # the log was started anew
        *lines, partial = (partial + text[position:]).split("\n")
        position = len(text)
        yield from lines
        if not running:
            break
        time.sleep(poll_seconds)
    if partial:
        yield partial


def is_running(job: JobStatus) -> bool:
    """Whether the job runs now, whatever its state when `job` was made."""
    record = read_record(job.record_file) or {}
    return "started" in record and "ended" not in record and is_held(job.lock)


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log; empty if there is no log."""
    return [printable(line) for line in _read(log).splitlines()[-count:]]


class _Asked(NamedTuple):
    """One training that a plan asks for, with the file that shows it is published and the log of its job."""

    name: str
    phase: str
    hash: str
    published: str
    log: Path


def _asked(plan: Plan) -> Iterator[_Asked]:
    for name in plan.bases:
        yield _Asked(name, "base", name, paths.base_model(name), Path(paths.BASE_LOG.format(hash=name)))
    for (prefix, unit), experiment in plan.experiments.items():
        log = Path(paths.EXPERIMENT_LOG.format(prefix=prefix, unit=unit))
        published = paths.experiment_done(prefix, unit)
        yield _Asked(f"{prefix}/{unit}", "finetune", experiment.hash, published, log)


def _status(plan: Plan, asked: _Asked, run: Turn | None, records: Path) -> JobStatus:
    record_file = record_path(plan.study.name, asked.phase, asked.name, records)
    record, kept = read_record(record_file) or {}, stored(plan.study.store, asked.hash)
    lock = kept.folder / "lock"
    if Path(asked.published).exists() or (asked.phase == "base" and kept.is_whole()):
        state = "done"
    elif is_held(lock):
        state = "running"
    elif run and asked.published in run.written and record.get("started", 0) < run.since:
        state = HANDED_BACK if kept.is_whole() else "waiting"
    else:
        state = _ended(record)
    return JobStatus(asked.name, asked.phase, state, asked.log, record, record_file, lock)


def _ended(record: dict[str, Any]) -> str:
    """The state of a training with this record whose job no longer runs."""
    if not record or record.get("returncode") == 0:
        return "not begun"
    if record.get("returncode") == EXIT_INTERRUPTED or "ended" not in record:
        return "interrupted"
    return "failed"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
