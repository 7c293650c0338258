"""How far a study is, from its files alone: the plan, the store, what jobs recorded, their logs. Light: no torch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.epoch_line import last_epoch
from ..job.records import FOLDER, places, read_record, record_path
from ..store.lock import is_held
from ..store.objects import stored
from ..study import paths
from ..study.plan import Plan
from ..study.problems import EXIT_INTERRUPTED
from ..study.told import printable
from .turns import is_under_way

STATES = ("running", "failed", "interrupted", "waiting", "not begun", "done")


@dataclass(frozen=True)
class JobStatus:
    """One training: `state` is waiting, running, done, failed, interrupted (killed; it will be resumed), or, where no run is
    under way for which it could wait, not begun."""

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
        """How long it has run, or ran."""
        return (self.record.get("ended") or time.time()) - self.record["started"] if self.record else 0.0

    def progress(self) -> str:
        """The last epoch and its loss, as the log says."""
        return printable(last_epoch(_read(self.log)))

    def reason(self) -> str:
        """Why it failed, in a line: what it recorded of that, else the last line of its log."""
        lines = f"{self.record.get('stderr', '')}".strip().splitlines() or self.last_lines(1)
        return printable(lines[-1]) if lines else "it left no word"

    def last_lines(self, count: int = 3) -> list[str]:
        return last_lines(self.log, count)


def study_status(plan: Plan, records: Path = FOLDER, has_ended: bool = False) -> list[JobStatus]:
    """Every training of a plan, base models first. `has_ended`: its run goes on no more, though it still has its turn."""
    study, found = plan.study.name, []
    idle = "waiting" if is_under_way(study) and not has_ended else "not begun"
    for name in plan.bases:
        done = Path(paths.base_model(name)).exists() or stored(plan.study.store, name).is_whole()
        log = Path(paths.BASE_LOG.format(hash=name))
        found.append(_status(plan, name, "base", name, done, log, record_path(study, "base", name, records), idle))
    for (prefix, unit), experiment in plan.experiments.items():
        name = f"{prefix}/{unit}"
        done = Path(paths.experiment_done(prefix, unit)).exists()
        log = Path(paths.EXPERIMENT_LOG.format(prefix=prefix, unit=unit))
        record = record_path(study, "finetune", name, records)
        found.append(_status(plan, name, "finetune", experiment.hash, done, log, record, idle))
    return found


def seconds_left(jobs: list[JobStatus]) -> float | None:
    """At the pace of the finished jobs of each kind, on as many places as are busy now; None while none is finished."""
    busy = max(1, sum(job.state == "running" for job in jobs))
    total = 0.0
    for phase in {job.phase for job in jobs}:
        mine = [job for job in jobs if job.phase == phase]
        left = [job for job in mine if job.state != "done"]
        took = [job.seconds for job in mine if job.state == "done" and job.record.get("ended")]
        if left and not took:
            return None
        pace = sum(took) / len(took) if took else 0.0
        total += sum(max(0.0, pace - job.seconds) if job.state == "running" else pace for job in left)
    return total / busy


def follow(job: JobStatus, poll_seconds: float = 0.5) -> Iterator[str]:
    """The lines of a job's log, old and new; ends when the job does."""
    position, partial = 0, ""
    while True:
        running = is_running(job)
        text = _read(job.log)
        position = 0 if len(text) < position else position  # started anew
        *lines, partial = (partial + text[position:]).split("\n")
        position = len(text)
        yield from lines
        if not running:
            break
        time.sleep(poll_seconds)
    if partial:
        yield partial


def is_running(job: JobStatus) -> bool:
    """Whether it runs now, whatever it did when `job` was made."""
    record = read_record(job.record_file) or {}
    return "started" in record and "ended" not in record and is_held(job.lock)


def last_lines(log: Path, count: int) -> list[str]:
    """The end of a log; nothing where there is none."""
    return [printable(line) for line in _read(log).splitlines()[-count:]]


def _status(
    plan: Plan, name: str, phase: str, spec_hash: str, done: bool, log: Path, record_file: Path, idle: str
) -> JobStatus:
    record = read_record(record_file) or {}
    lock = stored(plan.study.store, spec_hash).folder / "lock"
    if done:
        state = "done"
    elif is_held(lock):
        state = "running"
    elif not record or record.get("returncode") == 0:
        state = idle
    elif record.get("returncode") == EXIT_INTERRUPTED or "ended" not in record:
        state = "interrupted"
    else:
        state = "failed"
    return JobStatus(name, phase, state, log, record, record_file, lock)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
