"""How far a study is, in numbers: one count for the screen of a run, which hears of each job, and for status.py, which reads files."""

import time
from collections import Counter, defaultdict
from statistics import fmean

STATES = ("done", "failed", "running", "waiting", "interrupted", "not begun")
HANDED_BACK = "handed back"  # it waits, and the store has it: told as waiting, and takes no time


class Count:
    """The trainings of a study by state, and what those of a kind (base models, fine-tunes) took in seconds."""

    def __init__(self):
        self._now: dict[str, tuple[str, str]] = {}  # name: kind and state
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._since: dict[str, float] = {}  # name of a running one: seconds since the epoch
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._places = 0  # that were busy when one began last: between two trainings a place is not free

    def note(self, name: str, kind: str, state: str, since: float | None = None) -> None:
        """A training is in a state now, whatever it was in before; a running one `since` then."""
        if before := self._now.get(name):
            self._numbers[before] -= 1
        self._now[name] = kind, state
        self._numbers[kind, state] += 1
        self._since.pop(name, None)
        if state == "running":
            self._since[name] = time.time() if since is None else since
            self._places = len(self._since)

    def took(self, kind: str, seconds: float) -> None:
        """What one training took, from its job's begin to its end; not of one that the store handed back."""
        self._took[kind].append(seconds)

    def of(self, state: str) -> int:
        told_as = (state, HANDED_BACK) if state == "waiting" else (state,)
        return sum(number for (_, found), number in self._numbers.items() if found in told_as)

    def state(self, name: str) -> str | None:
        """None of what is no training of the study."""
        return self._now.get(name, (None, None))[1]

    @property
    def running(self) -> list[str]:
        return list(self._since)

    def seconds_left(self, now: float | None = None) -> float | None:
        """At the mean pace of each kind, on as many places as are busy; None where nothing is left, or nothing is known of a kind."""
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
        """As `57 done, 1 failed, 2 running, 80 waiting`."""
        numbers = [(self.of(state), state) for state in STATES]
        return ", ".join(f"{number} {state}" for number, state in numbers if number) or "nothing to train"

    def told_left(self) -> str:
        """As `about 3:12 left`; nothing where that is not known."""
        left = self.seconds_left()
        return "" if left is None else f"about {clock(left)} left"

    def end(self) -> None:
        """The run has ended: what it did not come to is not begun."""
        for name, (kind, state) in list(self._now.items()):
            if state in ("waiting", HANDED_BACK):
                self.note(name, kind, "not begun")
            elif state == "running":
                self.note(name, kind, "interrupted")


def clock(seconds: float) -> str:
    """As 3:12, or 1:03:12."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
