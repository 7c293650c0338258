"""Faults of a user's input: collected, not raised one by one, so that one run shows them all."""

import difflib
import json
import re
import signal
from collections.abc import Callable, Iterable


class Refusal(Exception):
    """What the user reads when a program cannot continue: bad input, a damaged or foreign model. Always one line,
    whatever the names and values that others wrote contain."""

    def __init__(self, text: str):
        super().__init__(on_one_line(text))


class StudyError(Refusal):
    """What is wrong with the input, one line per fault: key, value, fix."""

    def __init__(self, lines: Iterable[str]):
        self.lines = list(dict.fromkeys(map(on_one_line, lines)))
        Exception.__init__(self, "\n".join(self.lines))


class Problems:
    """Faults, collected while a study is read and raised together."""

    def __init__(self):
        self.lines: list[str] = []
        self.words: Callable[[str], str] = str  # the terms of a user's file whose keys are not a study's

    def add(self, key: str, value: object, fix: str) -> None:
        self.lines.append(f"{key}: {show(value)} {fix}")

    def unknown(self, key: str, value: object, known: Iterable[object]) -> None:
        """Report a value outside a closed set. Name the nearest member, or all if none is near."""
        self.add(key, value, f"unknown; {nearest(value, known)}")

    def unknown_key(self, key: str, known: Iterable[str]) -> None:
        self.lines.append(f"{key}: unknown key; {nearest(key.rpartition('.')[2], known)}")

    def concern(self, keys: Iterable[str]) -> bool:
        """Whether any fault concerns one of these top-level keys."""
        return not {re.split(r"[.:\[]", line, maxsplit=1)[0] for line in self.lines}.isdisjoint(keys)

    def raise_if_any(self) -> None:
        if self.lines:
            raise StudyError(map(self.words, self.lines))


def nearest(value: object, known: Iterable[object]) -> str:
    """A suggestion: `did you mean …?` if something is close, otherwise all the choices."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(value), names, n=1)
    return f"did you mean {close[0]}?" if close else f"choose {', '.join(names)}"


def show(value: object) -> str:
    """A value as the user wrote it, on one line. Characters that do not print are escaped, and a very long text is
    shortened in the middle."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:
        text = repr(value)
    text = on_one_line(text)
    return text if len(text) <= 300 else text[:200] + " … " + text[-80:]


def on_one_line(text: str) -> str:
    """A text with characters that do not print escaped, such as line ends and those that control a terminal."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def refusals(checks: Iterable[Callable[[], object]]) -> list[str]:
    """The reasons of all checks that refuse, each once."""
    reasons: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except Refusal as reason:
            reasons[str(reason)] = None
    return list(reasons)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # on these a training saves a checkpoint and ends
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL, "try again": Slurm's requeue and Snakemake's retries do


class Interrupted(Exception):
    """The training was told to stop and has saved a checkpoint; run again, it resumes from there."""
