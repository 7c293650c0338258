"""How far a study is, in numbers: for a run's screen, which follows events, and status.py, which reads files."""

import time
from collections import Counter, defaultdict
from statistics import fmean

STATES = ("done", "failed", "running", "waiting", "interrupted", "not begun")
HANDED_BACK = "handed back"  # waits, but the store has it: shown as waiting, takes no time


class Count:
    """The trainings of a study by state, and the seconds that trainings of each kind (base models, fine-tunes) took."""

    def __init__(self):
        self._now: dict[str, tuple[str, str]] = {}  # name: kind and state
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._since: dict[str, float] = {}  # start of each running training, in seconds since the epoch
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._places = 0  # busy when a training last began: a place between two trainings is not free

    def note(self, name: str, kind: str, state: str, since: float | None = None) -> None:
        """Set the present state of a training; a running one has run `since` then, or since now."""
        if before := self._now.get(name):
            self._numbers[before] -= 1
        self._now[name] = kind, state
        self._numbers[kind, state] += 1
        self._since.pop(name, None)
        if state == "running":
            self._since[name] = time.time() if since is None else since
            self._places = len(self._since)

    def took(self, kind: str, seconds: float) -> None:
        """Add the time from start to end of one training's job. Leave out trainings that the store handed back."""
        self._took[kind].append(seconds)

    def of(self, state: str) -> int:
        told_as = (state, HANDED_BACK) if state == "waiting" else (state,)
        return sum(number for (_, found), number in self._numbers.items() if found in told_as)

    def state(self, name: str) -> str | None:
        """The state of a training; None if the study has no training of this name."""
        return self._now.get(name, (None, None))[1]

    @property
    def running(self) -> list[str]:
        return list(self._since)

    def seconds_left(self, now: float | None = None) -> float | None:
        """Time left at the mean pace of each kind, with as many trainings at once as now. None if nothing is left, or
        if no training of a needed kind has been timed."""
        now = time.time() if now is None else now
        going = [(self._now[name][0], now - since) for name, since in self._since.items()]
        waiting = {kind: number for (kind, state), number in self._numbers.items() if state == "waiting" and number}
        kinds = waiting.keys() | {kind for kind, _ in going}
        if not kinds or not all(self._took.get(kind) for kind in kinds):
            return None
        pace = {kind: fmean(self._took[kind]) for kind in kinds}
        total = sum(pace[kind] * number for kind, number in waiting.items())
        total += sum(max(0.0, pace[kind] - seconds) for kind, seconds in going)
        return total / max(1, self._places if waiting else len(going))

    def told(self) -> str:
        """A text such as `57 done, 1 failed, 2 running, 80 waiting`."""
        numbers = [(self.of(state), state) for state in STATES]
        return ", ".join(f"{number} {state}" for number, state in numbers if number) or "nothing to train"

    def told_left(self) -> str:
        """A text such as `about 3:12 left`; empty if that is not known."""
        left = self.seconds_left()
        return "" if left is None else f"about {clock(left)} left"

    def end(self) -> None:
        """End the run: what still waits is not begun, what still runs is interrupted."""
        for name, (kind, state) in list(self._now.items()):
            if state in ("waiting", HANDED_BACK):
                self.note(name, kind, "not begun")
            elif state == "running":
                self.note(name, kind, "interrupted")


def clock(seconds: float) -> str:
    """A text such as 3:12 or 1:03:12."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
