"""What a run shows of its jobs: a line when one begins, which failed and why, that it was stopped. Snakemake's own log file keeps all
that Snakemake says."""

import logging
from pathlib import Path
from typing import Any, LiteralString

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from .events import event_of
from .status import last_lines

SCREEN = "DefaultStreamHandler"  # Snakemake's name for what writes on the screen
LONGEST = 300  # letters of a line
LINES = 4  # of a failed job's log
STOPPING = "Terminating processes on user request"  # how Snakemake's message of a Ctrl-C begins
STOPPED = "Stopped: nothing is lost, the same command goes on from here."
REASONS = {  # why a job runs though its files are there: Snakemake's words, and ours
    "Forced execution": "it is asked for",
    "Incomplete output files": "it was stopped before",
    "Updated input files": "what it reads changed",
    "Params have changed": "its settings changed",
}
LEFT_OUT = ("Select jobs to execute", "Execute ", "Some jobs were triggered by provenance", "Rules with provenance")


class Stop(logging.Handler):
    """Notices a Ctrl-C: what ends from then on is no failure."""

    is_asked = False

    def emit(self, record: logging.LogRecord) -> None:
        self.is_asked |= record.getMessage().startswith(STOPPING)


class ShortScreen(DefaultFormatter):
    """As Snakemake writes, but a line for a job that begins, and at most ten for one that fails, without the shell command."""

    def __init__(self, before: DefaultFormatter, stop: Stop):
        super().__init__(before.quiet, before.show_failed_logs)
        self.stop = stop

    def format(self, record: logging.LogRecord) -> str:
        kind, _ = event_of(record)
        said = record.getMessage()
        told_by_job_error = kind == LogEvent.ERROR and "CalledProcessError" in said
        told_at_the_end = self.stop.is_asked and "At least one job did not complete" in said
        is_left_out = kind != LogEvent.ERROR and said.startswith(LEFT_OUT)
        return "" if told_by_job_error or told_at_the_end or is_left_out else super().format(record)

    def format_job_info(self, msg: dict[str, Any]) -> str:
        why = [ours for theirs, ours in REASONS.items() if theirs in str(msg["reason"])]
        return _job(msg) + (f" ({', '.join(why)})" if why else "")

    def format_job_finished(self, msg: dict[str, Any]) -> str:
        return str(msg["msg"])

    def format_group_error(self, msg: dict[str, Any]) -> LiteralString:
        """Of a Slurm job of several fine-tunes; those that failed are told one by one."""
        return ""

    def format_job_error(self, msg: dict[str, Any]) -> str:
        if self.stop.is_asked:
            return f"stopped: {_job(msg)}"
        if msg["output"] and all(Path(file).exists() for file in msg["output"]):
            return ""  # published: of several fine-tunes in a Slurm job another one failed
        logs = [Path(log) for log in msg["log"]]
        said = next(filter(None, (last_lines(log, LINES) for log in logs)), ["(its log is empty)"])
        about = [f"{name} {value}" for name, value in msg["aux"].items()]
        return "\n".join([
            f"failed: {', '.join([_job(msg), *about])}",
            *(f"    {line[:LONGEST]}" for line in said),
            f"  log: {', '.join(map(str, logs))}",
            "  Mend that and run again: what is finished stays.",
        ])  # fmt: skip


def shorten_screen(logger: logging.Logger) -> Stop:
    """Let the screen be short, and tell from now on whether the run was stopped; a logger of the user's own choice is left alone."""
    stop = Stop()
    for handler in logger.handlers:
        if handler.name == SCREEN and isinstance(handler.formatter, DefaultFormatter):
            handler.setFormatter(ShortScreen(handler.formatter, stop))
    logger.addHandler(stop)
    return stop


def _job(msg: dict[str, Any]) -> str:
    """A job in words: its rule, and what it makes."""
    return " ".join([msg["rule_name"], *msg["output"][:1]])
