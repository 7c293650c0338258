"""The screen of a run. It shows Snakemake's events in its own thread, so that neither a blocked terminal nor a fault
here holds up a job. Snakemake's own log file keeps all that Snakemake says."""

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import FrameType
from typing import Any

from rich.console import Console
from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from ..study.plan import Plan
from .events import event_of
from .telling import Listing, Teller

SCREEN = "DefaultStreamHandler"  # Snakemake's names for the handlers that write to the screen
LOG_FILE = "DefaultLogFileHandler"  # and into .snakemake/log
UNTOLD = (LogEvent.SHELLCMD, LogEvent.JOB_STARTED, LogEvent.RESOURCES_INFO, LogEvent.RUN_INFO)
TICK_SECONDS = 1.0
LAST_SECONDS = 10.0  # longest wait for a terminal that reads no more
STOPPING = "Terminating processes on user request"  # the beginning of Snakemake's message on a Ctrl-C
AGAIN = "Mend that and run again: what is finished stays."
STOPPED = "Stopped: nothing is lost, the same command resumes from here."


class Stop(logging.Handler):
    """Notices a Ctrl-C or a SIGTERM: jobs that end from then on have not failed."""

    is_asked = False
    hears = False

    def emit(self, record: logging.LogRecord) -> None:
        self.is_asked |= record.getMessage().startswith(STOPPING)

    def hear_sigterm(self) -> None:
        """Call Snakemake's handler of SIGTERM in a new thread. It waits for a lock (9.27); in the main thread, which
        may hold that lock when it is interrupted, it would hang forever."""
        snakemakes = signal.getsignal(signal.SIGTERM)
        if self.hears or not callable(snakemakes):
            return

        def hear(number: int, frame: FrameType | None) -> None:
            self.is_asked = True
            Thread(target=snakemakes, args=(number, frame)).start()

        signal.signal(signal.SIGTERM, hear)
        self.hears = True


class Screen(logging.Handler):
    """Replaces Snakemake's own handler `before`, and hands over to it if showing an event fails."""

    def __init__(self, before: logging.Handler, teller: Teller):
        super().__init__()
        self.before, self.teller, self.is_broken = before, teller, False
        self._acts: SimpleQueue[Callable[[], Any] | logging.LogRecord | None] = SimpleQueue()
        self._thread = Thread(target=self._go_on, name="screen", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if event_of(record)[0] not in UNTOLD or self.is_broken:
            self._acts.put(record)

    def begin(self, plan: Plan) -> None:
        """Show that the jobs of a run begin."""
        self._acts.put(lambda: self.teller.begin(plan))

    def end(self) -> None:
        """Show that the jobs have ended; then `wait`."""
        self._acts.put(self.teller.end)
        self.wait()

    def wait(self) -> None:
        """Wait until all earlier events are shown, at most 10 s."""
        told = Event()
        self._acts.put(told.set)
        if self._thread.is_alive():
            told.wait(LAST_SECONDS)

    def close(self) -> None:
        self._acts.put(None)
        self._thread.join(LAST_SECONDS)
        super().close()

    def _go_on(self) -> None:
        while (act := self._next()) is not None:
            if isinstance(act, logging.LogRecord):
                self._safely(lambda record=act: self.teller.tell(record), act)
            else:
                self._safely(act)
        self._safely(self.teller.end)

    def _next(self) -> Callable[[], Any] | logging.LogRecord | None:
        try:
            return self._acts.get(timeout=TICK_SECONDS)
        except Empty:
            return self.teller.tick

    def _safely(self, act: Callable[[], Any], record: logging.LogRecord | None = None) -> None:
        """Call `act`; after the first fault, Snakemake's own handler shows the records instead."""
        try:
            if not self.is_broken or (record is None and act is not self.teller.tick):
                act()
        except Exception as fault:
            self.is_broken = True
            self.teller.give_up(fault)
        if self.is_broken and record:
            with suppress(Exception):  # nobody reads any more, as with `| head`: the run continues
                self.before.handle(record)


class NoScreen:
    """Stands in for the screen if the user chose another logger."""

    def begin(self, plan: Plan) -> None: ...

    def end(self) -> None: ...

    def wait(self) -> None: ...


def take_screen(logger: logging.Logger, settings: Any, stop: Stop) -> Screen | NoScreen:
    """Replace Snakemake's own screen with ours, unless the user chose another logger. `settings` are Snakemake's
    OutputSettings. If they ask for more, as --verbose or --printshellcmds do, all of Snakemake's output stays."""
    screen: Screen | NoScreen = NoScreen()
    for handler in list(logger.handlers):
        if handler.name == LOG_FILE and isinstance(handler.formatter, DefaultFormatter):
            handler.formatter.show_failed_logs = True
        if handler.name == SCREEN and isinstance(handler, ColorizingTextHandler):
            is_full = any((settings.verbose, settings.printshellcmds, settings.debug_dag, settings.show_failed_logs))
            if not is_full:
                logger.removeHandler(handler)
            screen = Screen(logging.NullHandler() if is_full else handler, _teller(handler, settings, stop, is_full))
            logger.addHandler(screen)
    logger.addHandler(stop)
    return screen


def _teller(handler: ColorizingTextHandler, settings: Any, stop: Stop, is_full: bool) -> Teller:
    stream = handler.stream
    console = _Console(file=stream, force_terminal=stream.isatty(), no_color=handler.nocolor or None, highlight=False)
    kind = Listing if settings.dryrun and not is_full else Teller
    return kind(console, lambda record: bool(handler.filter(record)), lambda: stop.is_asked, shows_words=not is_full)


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor alone: a killed run could not show it again."""
        return False

    def on_broken_pipe(self) -> None:
        """Raise the error again; rich would end the thread and send the answer on stdout nowhere."""
        raise
