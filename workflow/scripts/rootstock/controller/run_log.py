"""results/<study>/run_log.json: what one run did, from Snakemake's events and the jobs' records."""

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from ..job.records import FOLDER, places, read_record, record_path
from ..store.files import write_json
from ..study import paths
from ..study.plan import Plan
from .events import event_of, job_of, own_name

TAIL = 20  # lines of a failed job's log


@dataclass
class _Job:
    """A job of this run as the Snakemake process sees it; times are in seconds since the epoch."""

    phase: str
    name: str
    log: list[str]
    submitted: float
    ended: float | None = None
    success: bool = False


class RunLog(logging.Handler):
    """Listens to Snakemake's events; `write` makes the file, also after a failure or Ctrl-C. `rules`: names of the
    study's own rules; None if all are its own."""

    def __init__(self, plan: Plan, records: Path = FOLDER, rules: Collection[str] | None = None):
        super().__init__()
        self.rules = rules
        self.plan, self.records, self.started = plan, records, time.time()
        self.jobs: dict[int, _Job] = {}

    def emit(self, record: logging.LogRecord) -> None:
        kind, event = event_of(record)
        match kind:
            case LogEvent.JOB_INFO if self._is_own(event.rule_name):
                self.jobs[event.jobid] = _Job(*job_of(event), list(event.log or []), time.time())
            case LogEvent.JOB_FINISHED if job := self.jobs.get(event.job_id):
                job.ended, job.success = time.time(), True
            case LogEvent.JOB_ERROR if job := self.jobs.get(event.jobid):
                job.ended = time.time()

    def _is_own(self, rule: str) -> bool:
        return own_name(rule) != "all" and (self.rules is None or rule in self.rules)

    def write(self) -> None:
        """Write the file atomically; jobs that an interrupted run left unfinished count as failed."""
        ended = time.time()
        results = [self._result(job, ended) for job in self.jobs.values()]
        gpus = sorted({gpu for result in results for gpu in result["gpu"].split(", ") if ":gpu" in gpu})
        busy = sum(_gpu_seconds(result) for result in results)
        available = len(gpus) * (ended - self.started)
        succeeded = sum(result["success"] for result in results)
        content = {
            "start_time": _iso(self.started),
            "end_time": _iso(ended),
            "total_duration_seconds": round(ended - self.started, 3),
            "gpus": gpus,
            "total_jobs": len(results),
            "successful_jobs": succeeded,
            "failed_jobs": len(results) - succeeded,
            "gpu_utilization_percent": round(100 * busy / available, 1) if available else None,
            "results": results,
        }
        write_json(Path(paths.RUN_LOG.format(study=self.plan.study.name)), content)

    def _result(self, job: _Job, now: float) -> dict[str, Any]:
        record = read_record(record_path(self.plan.study.name, job.phase, job.name, self.records)) or {}
        if record.get("started", 0) < self.started:
            record = {}  # of an earlier run: this run's job did not get as far as a record
        # If one of several jobs in a Slurm job fails, Snakemake says only that; the records say how the others ended.
        success = job.success or record.get("returncode") == 0
        started, ended = record.get("started", job.submitted), record.get("ended") or job.ended or now
        return {
            "job_id": job.name,
            "phase": job.phase,
            "gpu": ", ".join(places(record)) if record else "",
            "config": self._config(job),
            "success": success,
            "returncode": 0 if success else record.get("returncode") or 1,
            "start_time": _iso(started),
            "end_time": _iso(ended),
            "duration_seconds": round(max(0.0, ended - started), 3),
            "stderr": "" if success else _tail(job.log) or record.get("stderr", ""),
        }

    def _config(self, job: _Job) -> dict[str, Any]:
        if job.phase == "base":
            return self.plan.bases[job.name].spec.model_dump(mode="json")
        if job.phase == "finetune":
            prefix, unit = job.name.split("/")
            return self.plan.experiments[prefix, unit].spec.model_dump(mode="json")
        return {}


def _gpu_seconds(result: dict[str, Any]) -> float:
    return sum(":gpu" in gpu for gpu in result["gpu"].split(", ")) * result["duration_seconds"]


def _tail(logs: list[str]) -> str:
    lines = [line for log in logs if Path(log).is_file() for line in Path(log).read_text(errors="replace").splitlines()]
    return "\n".join(lines[-TAIL:])


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
