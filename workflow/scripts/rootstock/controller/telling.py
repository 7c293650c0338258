"""The words on a run's screen: failed jobs and why they failed, the jobs of a dry run, and Snakemake's own warnings."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from ..study.plan import Plan
from ..study.told import printable
from .events import Event, event_of
from .going import Going
from .live_line import LiveLine, Progress, Tenths

FAILURES = 20  # failures that are shown; Snakemake's log and missing.csv have all
LISTED = 8  # jobs that a dry run shows per rule and reason
REASONS = {  # why a job runs although its files are there: Snakemake's words and ours
    "Forced execution": "it is asked for",
    "Incomplete output files": "it was stopped before",
    "Updated input files": "what it reads changed",
    "Params have changed": "its settings changed",
}
SHOWN = (  # messages of Snakemake that are shown besides warnings and errors
    "Nothing to be done",
    "Terminating processes on user request",
    "Will exit after finishing",
    "Creating conda environment",
)
LEFT_OUT = (  # its warnings and errors that we show in other words
    "Exiting because a job execution failed",
    "--keep-incomplete mode is set",
)
BEFORE = "Assuming unrestricted shared filesystem"  # a message that comes before a run is known as one
FAILED = "At least one job did not complete"

IsTold = Callable[[logging.LogRecord], bool]


class Teller:
    """Shows a run. `is_told` is Snakemake's filter, which knows what --quiet leaves out. `is_stopped` says whether a
    Ctrl-C or a SIGTERM ended the run."""

    def __init__(self, console: Console, is_told: IsTold, is_stopped: Callable[[], bool], shows_words: bool = True):
        self.console, self.is_told, self.is_stopped, self.shows_words = console, is_told, is_stopped, shows_words
        self.going: Going | None = None
        self.progress: Progress | None = None
        self.told: set[tuple[int, str]] = set()  # failures: job and reason
        self.is_run = False
        self.log_of_group: list[str] = []

    def begin(self, plan: Plan) -> None:
        """Begin with a run, or add one more study to it."""
        if self.going:
            return self.going.add(plan)
        self.going = Going(plan)
        if self.is_told(logging.makeLogRecord({"event": LogEvent.PROGRESS})):
            is_live = self.console.is_terminal and not self.console.is_dumb_terminal and self.shows_words
            self.progress = (LiveLine if is_live else Tenths)(self.console, self.going)

    def end(self) -> None:
        progress, self.progress = self.progress, None
        if progress:
            progress.end()

    def tick(self, is_settled: bool = True) -> None:
        """Update the progress as time passes."""
        if self.progress and self.going:
            self.going.look()
            self.progress.show(is_settled)

    def give_up(self, fault: Exception) -> None:
        """Report a fault of this screen, and leave the screen to Snakemake's own words."""
        progress, self.progress = self.progress, None
        with suppress(Exception):
            if isinstance(progress, LiveLine):
                progress.live.stop()
            self._say(
                f"The screen of this run broke ({type(fault).__name__}: {fault}); the run continues, in Snakemake's words:"
            )

    def tell(self, record: logging.LogRecord) -> None:
        kind, event = event_of(record)
        if self.going:
            self._follow(self.going, kind, event, record)
        if self.shows_words and self.is_told(record):
            self._tell(kind, event, record)
        self.tick(is_settled=kind == LogEvent.JOB_INFO)

    def _follow(self, going: Going, kind: LogEvent | None, event: Event, record: logging.LogRecord) -> None:
        match kind:
            case LogEvent.JOB_INFO if event.output:
                going.begin(event, record.created)
            case LogEvent.JOB_FINISHED:
                going.finish(event.job_id)
            case LogEvent.JOB_ERROR if self.is_stopped():
                going.fail(event.jobid, "interrupted")
            case LogEvent.JOB_ERROR if is_published(event):
                going.finish(event.jobid)
            case LogEvent.JOB_ERROR:
                going.fail(event.jobid)
            case LogEvent.PROGRESS if event.total:
                going.share = event.done / event.total

    def _tell(self, kind: LogEvent | None, event: Event, record: logging.LogRecord) -> None:
        match kind:
            case LogEvent.WORKFLOW_STARTED:
                self.is_run = True
            case LogEvent.JOB_ERROR if not self.is_stopped() and not is_published(event):
                self._tell_failure(event)
            case LogEvent.GROUP_ERROR:
                self.log_of_group = list(event.aux_logs)
            case LogEvent.ERROR | None:
                self._tell_message(kind, record)

    def _tell_failure(self, event: Event) -> None:
        """Show one line: what failed, why, and its log. A second failure for the same reason is not shown again."""
        reason = self.going.reason(event, self.log_of_group) if self.going else "it did not begin"
        if (event.jobid, reason) in self.told:
            return
        self.told.add((event.jobid, reason))
        if len(self.told) <= FAILURES:
            about = [f"{name} {value}" for name, value in event.aux.items()]
            what = ", ".join([" ".join([event.rule_name, *event.output[:1]]), *about])
            logs = ", ".join(map(os.path.relpath, event.log or [])) or "none"
            self._say(f"{what}: {reason}; log: {logs}", "failed: ", "bold red")
        elif len(self.told) == FAILURES + 1:
            self._say("more jobs failed; Snakemake's log and status.py name them all")

    def _tell_message(self, kind: LogEvent | None, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if kind == LogEvent.ERROR:
            is_left_out = "CalledProcessError" in said or (FAILED in said and (self.told or self.is_stopped()))
        elif record.levelno < logging.WARNING:
            is_left_out = said.startswith(BEFORE) or (self.is_run and not said.startswith(SHOWN))
        else:
            is_left_out = said.startswith(LEFT_OUT)
        if not is_left_out and said != "None":
            style = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno, "")
            self._say("", said.strip("\n"), style)

    def _say(self, words: str, first: str = "", style: str = "") -> None:
        self.console.print(Text.assemble((printable(first), style), printable(words)), soft_wrap=True)


class Listing(Teller):
    """Shows a dry run: the jobs that it would start, a few of each kind."""

    def __init__(self, console: Console, is_told: IsTold, is_stopped: Callable[[], bool], shows_words: bool = True):
        super().__init__(console, is_told, is_stopped, shows_words)
        self.jobs: dict[tuple[str, str], list[str]] = defaultdict(list)  # by rule and reason

    def _tell(self, kind: LogEvent | None, event: Event, record: logging.LogRecord) -> None:
        if kind == LogEvent.JOB_INFO and event.output:
            self.jobs[event.rule_name, why_again(event.reason)].append(event.output[0])
        else:
            super()._tell(kind, event, record)

    def end(self) -> None:
        for (rule, why), outputs in self.jobs.items():
            for output in outputs[:LISTED]:
                self._say(f"{rule} {output}{why}")
            if len(outputs) > LISTED:
                self._say(f"  and {len(outputs) - LISTED} more{why}; -p lists them all")
        self.jobs.clear()


def is_published(event: Event) -> bool:
    """Whether all files of a job are there: then, in a failed Slurm job of several fine-tunes, another one failed."""
    return bool(event.output) and all(Path(file).exists() for file in event.output)


def why_again(reason: str) -> str:
    """Why a job runs although its files are there, in parentheses; empty if no such reason is given."""
    why = [ours for theirs, ours in REASONS.items() if theirs in reason]
    return f" ({', '.join(why)})" if why else ""
