"""Snakemake's events as its loggers receive them: log records that carry more than a message."""

import logging
from collections.abc import Mapping
from typing import Protocol, cast

from snakemake_interface_logger_plugins.common import LogEvent


class Event(Protocol):
    """What a record may carry. Which of it is there depends on `event`; see the logger plugins of Snakemake."""

    rule_name: str
    wildcards: Mapping[str, str]
    log: list[str] | None
    jobid: int  # of JOB_INFO and JOB_ERROR
    job_id: int  # of JOB_FINISHED
    done: int
    total: int


def event_of(record: logging.LogRecord) -> tuple[LogEvent | None, Event]:
    """Which event a record tells, None where it is a plain message, and the record as what carries it."""
    return getattr(record, "event", None), cast(Event, record)
