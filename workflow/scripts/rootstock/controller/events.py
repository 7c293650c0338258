"""Snakemake's events as its loggers receive them: log records that carry more than a message."""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from snakemake_interface_logger_plugins.common import LogEvent

PHASES = {
    "train_base": "base",
    "train_finetune": "finetune",
}  # rules that train; another rule is a phase by its own name

RULES = ("all", "prepare", "train_base", "train_finetune", "measure_baseline", "summarise", "report", "export")


class Event(Protocol):
    """What a record may carry. Which of it is there depends on `event`; see the logger plugins of Snakemake."""

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
    """A job of a run: what it is about, as its record and status.py name it."""

    phase: str
    name: str


def event_of(record: logging.LogRecord) -> tuple[LogEvent | None, Event]:
    """Which event a record tells, None where it is a plain message, and the record as what carries it."""
    return getattr(record, "event", None), cast(Event, record)


def job_of(event: Event) -> Job:
    """The job that begins, by its event JOB_INFO."""
    rule = own_name(event.rule_name)
    return Job(PHASES.get(rule, rule), "/".join(event.wildcards.values()) or rule)


def own_name(rule: str) -> str:
    """The name of a rule as it is here: a user's workflow may use it `as` another, with letters before it."""
    return next((name for name in RULES if rule.endswith(f"_{name}")), rule)
