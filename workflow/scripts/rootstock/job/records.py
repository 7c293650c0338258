"""The record that each job leaves: where it ran, on which GPUs, when it started, how it ended. Light: no torch."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..machine.private import read_json
from ..machine.this import host_name, user_name
from ..store.files import write_json
from ..study.problems import EXIT_INTERRUPTED, Interrupted, Refusal

FOLDER = Path(".rootstock/jobs")


class JobRecord:
    """One job's file, rewritten while it runs. A job with `started` but no `ended` still runs or was killed."""

    def __init__(self, study: str, phase: str, name: str, folder: Path = FOLDER):
        self.path = record_path(study, phase, name, folder)
        before = read_record(self.path) or {}
        self.content: dict[str, Any] = {
            "job_id": name,
            "phase": phase,
            "user": user_name(),
            "host": host_name(),
            "pid": os.getpid(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "gpus": [],
            "attempt": before.get("attempt", 0) + 1,
            "started": time.time(),
        }

    def update(self, **news: Any) -> None:
        self.content |= news
        write_json(self.path, self.content)


@contextmanager
def recorded(study: str, phase: str, name: str) -> Iterator[JobRecord | None]:
    """Record how the block inside ends, and why it failed. Yield None for a training by hand, without a study."""
    if not study:
        yield None
        return
    record = JobRecord(study, phase, name)
    record.update()
    try:
        yield record
    except BaseException as error:
        record.update(ended=time.time(), returncode=_status(error), stderr=f"{error}".strip() or type(error).__name__)
        raise
    record.update(ended=time.time(), returncode=0, stderr="")


def record_path(study: str, phase: str, name: str, folder: Path = FOLDER) -> Path:
    place = Path(study, phase, f"{name}.json")
    if place.is_absolute() or ".." in place.parts:
        raise Refusal(f"{place}: no job's record lies there; give --output experiments/<prefix>/<unit>, without '..'")
    return folder / place


def read_record(path: Path) -> dict[str, Any] | None:
    try:
        content = read_json(path)
    except (OSError, ValueError, Refusal):
        return None
    numbers = (content.get(name) for name in ("started", "ended", "attempt", "returncode"))
    return content if all(isinstance(number, int | float | None) for number in numbers) else None


def places(record: dict[str, Any]) -> list[str]:
    """Where a job computed, as user@host:gpuN, or user@host:cpu."""
    where = f"{record.get('user', '?')}@{record.get('host', '?')}"
    return [f"{where}:gpu{gpu}" for gpu in record.get("gpus", [])] or [f"{where}:cpu"]


def _status(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, Interrupted):
        return EXIT_INTERRUPTED
    return 1 if isinstance(error, Exception) else 130
