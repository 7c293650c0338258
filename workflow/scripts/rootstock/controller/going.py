"""A run under way: which jobs run, are done or failed, and why, from Snakemake's events and the jobs' records."""

import time
from pathlib import Path
from typing import Any

from ..job.records import FOLDER, read_record, record_path
from ..study.plan import Plan
from .events import Event, Job, job_of
from .status import counted, last_lines, recorded_reason, seconds_of_training, study_status

SKEW_SECONDS = 5  # largest expected difference between the clocks of two machines
LOOK_SECONDS = 3  # pause between two looks for jobs that a cluster has started
LONGEST = 300  # characters of a reason
NO_REASON = "For further error details"  # an executor's message is cut off here


class Going:
    """The jobs of a run. A job submitted to a cluster waits until its record says that it has started."""

    def __init__(self, plan: Plan, records: Path = FOLDER):
        self.count = counted(study_status(plan, records))
        self.studies, self.records = [plan.study.name], records
        self.began = time.time()
        self.share = 0.0  # share of all jobs of the run that are done
        self.running: dict[int, Job] = {}
        self._submitted: dict[int, float] = {}  # submission times of cluster jobs that have not started
        self._jobs: dict[int, tuple[Job, float]] = {}
        self._looked = 0.0

    def add(self, plan: Plan) -> None:
        """Add another study whose jobs belong to the same run."""
        self.studies.append(plan.study.name)
        counted(study_status(plan, self.records), self.count)

    def begin(self, event: Event, created: float) -> None:
        """A job starts here or is submitted; `created` is the time of the event, in seconds since the epoch."""
        job = job_of(event)
        self._jobs[event.jobid] = job, created - (0 if event.local else SKEW_SECONDS)
        if event.local:
            self._runs(event.jobid, created)
        else:
            self._submitted[event.jobid] = created
            self._note(job, "waiting")

    def finish(self, jobid: int) -> None:
        if job := self._ended(jobid):
            self._note(job, "done")
            if (seconds := seconds_of_training(self.record(jobid))) is not None:
                self.count.took(job.phase, seconds)

    def fail(self, jobid: int, state: str = "failed") -> None:
        """A job failed; it may be submitted again."""
        if job := self._ended(jobid):
            self._note(job, state)

    def look(self) -> None:
        """Note which submitted jobs have started meanwhile; their records say so."""
        if not self._submitted or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for jobid in list(self._submitted):
            record = self.record(jobid)
            if record and "ended" not in record:
                self._runs(jobid, record["started"])

    def record(self, jobid: int) -> dict[str, Any]:
        """The record that a job of this run wrote; empty if there is none, or only one of an earlier attempt."""
        job, since = self._jobs.get(jobid, (None, 0.0))
        studies = self.studies if job else []
        read = (read_record(record_path(study, *job, self.records)) for study in studies if job)
        return next((found for found in read if found and (found.get("started") or 0) >= since), {})

    def reason(self, event: Event, log_of_group: list[str]) -> str:
        """Why a job failed, in one line: its recorded reason, or the executor's message and its log's last line."""
        record = self.record(event.jobid)
        if record.get("returncode") and (said := recorded_reason(record)):
            return said[0][:LONGEST]
        word = (event.rule_msg or "").partition(NO_REASON)[0].strip()
        logs = [Path(log) for log in [*(event.log or []), *log_of_group]]
        last = next((lines[0].strip() for log in logs if (lines := last_lines(log, 1))), "")
        return (" ".join(filter(None, [word, last])) or "its log is empty")[:LONGEST]

    def _runs(self, jobid: int, since: float) -> None:
        self._submitted.pop(jobid, None)
        job, _ = self._jobs[jobid]
        self.running[jobid] = job
        if self.count.state(job.name):
            self.count.note(job.name, job.phase, "running", since)

    def _ended(self, jobid: int) -> Job | None:
        self._submitted.pop(jobid, None)
        self.running.pop(jobid, None)
        return self._jobs.get(jobid, (None, 0.0))[0]

    def _note(self, job: Job, state: str) -> None:
        if self.count.state(job.name):  # a training of the study
            self.count.note(job.name, job.phase, state)
