"""Snakemake's events as its loggers receive them: log records that carry more than a message."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from snakemake_interface_logger_plugins.common import LogEvent

PHASES = {
    "train_base": "base",
    "train_finetune": "finetune",
}  # rules that train; the phase of any other rule is its name

RULES = ("all", "prepare", "train_base", "train_finetune", "measure_baseline", "summarise", "report", "export")


class Event(Protocol):
    """What a record may carry. Which attributes it has depends on `event`; see Snakemake's logger plugins."""

    rule_name: str
    rule_msg: str | None
    wildcards: Mapping[str, str]
    output: list[str]
    log: list[str] | None
    reason: str
    local: bool
    aux: Mapping[str, Any]
    aux_logs: list[str]
    jobid: int  # of JOB_INFO and JOB_ERROR
    job_id: int  # of JOB_FINISHED
    done: int
    total: int


class Job(NamedTuple):
    """A job of a run, named as in its record and in status.py."""

    phase: str
    name: str


def event_of(record: logging.LogRecord) -> tuple[LogEvent | None, Event]:
    """The kind of event that a record reports (None for a plain message), and the record typed as an event."""
    return getattr(record, "event", None), cast(Event, record)


def job_of(event: Event) -> Job:
    """The job that begins with an event JOB_INFO."""
    rule = own_name(event.rule_name)
    return Job(PHASES.get(rule, rule), "/".join(event.wildcards.values()) or rule)


def own_name(rule: str) -> str:
    """The original name of a rule: a user's workflow may `use rule … as` a name with a prefix."""
    return next((name for name in RULES if rule.endswith(f"_{name}")), rule)
