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

STATES = ("running", "failed", "interrupted", "waiting", "done")


@dataclass(frozen=True)
class JobStatus:
    """One training: `state` is waiting, running, done, failed, or interrupted (killed; it will be resumed)."""

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

    def last_lines(self, count: int = 3) -> list[str]:
        return [printable(line) for line in _read(self.log).splitlines()[-count:]]


def study_status(plan: Plan, records: Path = FOLDER) -> list[JobStatus]:
    """Every training of a plan, base models first."""
    study, found = plan.study.name, []
    for name in plan.bases:
        done = Path(paths.base_model(name)).exists() or stored(plan.study.store, name).is_whole()
        log = Path(paths.BASE_LOG.format(hash=name))
        found.append(_status(plan, name, "base", name, done, log, record_path(study, "base", name, records)))
    for (prefix, unit), experiment in plan.experiments.items():
        name = f"{prefix}/{unit}"
        done = Path(paths.experiment_done(prefix, unit)).exists()
        log = Path(paths.EXPERIMENT_LOG.format(prefix=prefix, unit=unit))
        record = record_path(study, "finetune", name, records)
        found.append(_status(plan, name, "finetune", experiment.hash, done, log, record))
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


def _status(plan: Plan, name: str, phase: str, spec_hash: str, done: bool, log: Path, record_file: Path) -> JobStatus:
    record = read_record(record_file) or {}
    lock = stored(plan.study.store, spec_hash).folder / "lock"
    if done:
        state = "done"
    elif is_held(lock):
        state = "running"
    elif not record:
        state = "waiting"
    elif record.get("returncode") == EXIT_INTERRUPTED or "ended" not in record:
        state = "interrupted"
    else:
        state = "failed" if record["returncode"] else "waiting"
    return JobStatus(name, phase, state, log, record, record_file, lock)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
