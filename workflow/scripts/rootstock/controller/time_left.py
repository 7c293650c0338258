"""Time left of a run, beside the steps that Snakemake counts."""

import logging
import time

from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

from .events import event_of


class TimeLeft(logging.Handler):
    """Listens to Snakemake's progress events and prints how long the rest will take at the pace so far."""

    def __init__(self, stream):
        super().__init__()
        self.stream, self.started = stream, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        kind, event = event_of(record)
        if kind == LogEvent.PROGRESS and event.done:
            line = tqdm.format_meter(
                event.done,
                event.total,
                time.monotonic() - self.started,
                ncols=100,
                bar_format="{percentage:3.0f}% {bar} {n_fmt} of {total_fmt} jobs, {elapsed} so far, about {remaining} left",
            )
            print(line, file=self.stream, flush=True)
