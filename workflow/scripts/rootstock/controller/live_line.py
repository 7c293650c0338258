"""How far a run is: one line of a terminal that is redrawn, or without a terminal a new line per tenth of the way."""

import time
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..study.told import printable
from .counting import clock
from .going import Going

WIDE = 60  # columns; a narrower terminal has no room for a bar
BAR_SHARE = 6  # the bar takes one column in six
DRAW_SECONDS = 0.2, 1.0  # shortest pause between two drawings: when settled, when not
NAMED = 2  # running jobs that the line names


class Progress(Protocol):
    """Shows how far a run is. A run `is_settled` when no job is about to start in place of one that has just ended."""

    def show(self, is_settled: bool) -> None: ...

    def end(self) -> None: ...


class LiveLine:
    """The last line of a terminal."""

    def __init__(self, console: Console, going: Going):
        self.console, self.going, self.drawn = console, going, 0.0
        self.live = Live(console=console, auto_refresh=False)
        self.live.start()

    def show(self, is_settled: bool) -> None:
        if time.monotonic() - self.drawn > DRAW_SECONDS[not is_settled]:
            self._draw(told(self.going) + _running(self.going))

    def end(self) -> None:
        """Leave the line on the screen, with the outcome of the run."""
        self._draw(told_at_the_end(self.going))
        self.live.stop()

    def _draw(self, words: str) -> None:
        width = self.console.width
        columns = width // BAR_SHARE if width >= WIDE else 0
        line = Table.grid(padding=(0, 1, 0, 0))
        if columns:
            line.add_column(width=columns)
        line.add_column(width=width - columns - 2, no_wrap=True, overflow="ellipsis")
        bar = [ProgressBar(total=1.0, completed=self.going.share, width=columns)] if columns else []
        line.add_row(*bar, Text(printable(words)))
        self.live.update(line, refresh=True)
        self.drawn = time.monotonic()


class Tenths:
    """One line per tenth of the way, for a file, a pipe, or a terminal that cannot move its cursor."""

    def __init__(self, console: Console, going: Going):
        self.console, self.going, self.tenth = console, going, 0

    def show(self, is_settled: bool) -> None:
        tenth = int(10 * self.going.share)
        if is_settled and self.tenth < tenth < 10:
            self._say(told(self.going))
            self.tenth = tenth

    def end(self) -> None:
        self._say(told_at_the_end(self.going))

    def _say(self, words: str) -> None:
        self.console.print(Text(f"{self.going.share:4.0%} of all jobs, trainings: {printable(words)}"), soft_wrap=True)


def told(going: Going) -> str:
    """A text such as `57 done, 2 running, 80 waiting, about 3:12 left`."""
    return ", ".join(filter(None, [going.count.told(), going.count.told_left()]))


def told_at_the_end(going: Going) -> str:
    going.count.end()
    return f"{going.count.told()} in {clock(time.time() - going.began)}"


def _running(going: Going) -> str:
    jobs = [f"{job.phase} {job.name}" if job.name != job.phase else job.name for job in going.running.values()]
    more = f" and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
    return f": {', '.join(jobs[:NAMED])}{more}" if jobs else ""
