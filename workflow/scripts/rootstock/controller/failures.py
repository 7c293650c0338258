"""A failed job on the screen: which, why, where its log is, what to do. Snakemake's own log file keeps all that it says."""

import logging
from pathlib import Path
from typing import Any

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from .events import event_of
from .status import last_lines

SCREEN = "DefaultStreamHandler"  # Snakemake's name for what writes on the screen
LONGEST = 300  # letters of a line
LINES = 4  # of a failed job's log


class ShortFailures(DefaultFormatter):
    """As Snakemake writes, but for failures: at most ten lines each, without the shell command."""

    def format(self, record: logging.LogRecord) -> str:
        kind, _ = event_of(record)
        told_by_job_error = kind == LogEvent.ERROR and "CalledProcessError" in record.getMessage()
        return "" if told_by_job_error else super().format(record)

    def format_job_error(self, msg: dict[str, Any]) -> str:
        logs = [Path(log) for log in msg["log"]]
        said = next(filter(None, (last_lines(log, LINES) for log in logs)), ["(its log is empty)"])
        about = [f"{name} {value}" for name, value in msg["aux"].items()]
        return "\n".join([
            f"failed: {msg['rule_name']} {', '.join([*msg['output'][:1], *about])}",
            *(f"    {line[:LONGEST]}" for line in said),
            f"  log: {', '.join(map(str, logs))}",
            "  Mend that and run again: what is finished stays.",
        ])  # fmt: skip


def shorten_failures(logger: logging.Logger) -> None:
    """Let the screen have short failures; a logger of the user's own choice is left alone."""
    for handler in logger.handlers:
        if handler.name == SCREEN and isinstance(handler.formatter, DefaultFormatter):
            handler.setFormatter(ShortFailures(handler.formatter.quiet, handler.formatter.show_failed_logs))
