"""How a program tells its user that it cannot continue: one line per fault, whatever went wrong. Light: no torch."""

import errno
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .problems import Refusal, on_one_line
from .task import Task

DETAILS = Path(".rootstock/last_error.txt")
NOT_OWN = (
    Path(__file__).resolve().parents[2],
    Path(sysconfig.get_path("stdlib")).resolve(),
)  # scripts and this package; Python's library
INSTALLED = {"site-packages", "dist-packages"}
FIXES = {
    errno.ENOSPC: "; free some space and run again: a training resumes from its last whole checkpoint",
    errno.EDQUOT: "; free some of your quota and run again: a training resumes from its last whole checkpoint",
    errno.EROFS: "; name a store and a project folder that can be written",
    errno.EACCES: "; name a store and a project folder that you may read and write",
}


@contextmanager
def told_as_lines() -> Iterator[None]:
    """Print any exception raised inside to stderr, as `told` words it, and end the program with status 1."""
    try:
        yield
    except Exception as error:
        print(printable(told(error)), file=sys.stderr)
        sys.exit(1)


def told(error: Exception) -> str:
    """What the user reads of an error: one line per fault of the input, one line for anything else."""
    match error:
        case Refusal():
            return str(error)
        case OSError():
            what = on_one_line(f"{error.filename or 'file'}: {error.strerror or error}")
            return f"{what}{FIXES.get(error.errno or 0, '')}"
        case ModuleNotFoundError() if requirements := _requirements_of(error.name or ""):
            return (
                f"{error.name}: not installed; .venv/bin/pip install -r {requirements}, or make run STUDY=… of its task"
            )
    return _bug(error)


def printable(text: str) -> str:
    """The text without characters that control a terminal: parts of it may come from somebody else's file."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def own_place(error: BaseException) -> str | None:
    """The last place in the user's own code that an error passed through: file, line and function; None if none."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename).resolve()
        is_apart = any(file.is_relative_to(folder) for folder in NOT_OWN) or not INSTALLED.isdisjoint(file.parts)
        if file.is_file() and not is_apart:
            return f"{file.name}:{line}, in {frame.f_code.co_name}"
    return None


def _bug(error: Exception) -> str:
    """One line for an error that nobody foresaw. Its traceback goes to a file that the user can send."""
    with suppress(OSError):
        _keep("".join(traceback.format_exception(error)))
    what = (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:300]
    return f"{what}; this is a bug, {_whose(error)}: see {DETAILS}"


def _keep(details: str) -> None:
    """Write the details below the folder in which the program was started. Follow no links: the folder may be open to
    all, such as /tmp, where others may place links, and parts of the details may come from others too."""
    DETAILS.parent.mkdir(exist_ok=True)
    folder = os.open(DETAILS.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(FileNotFoundError):
            os.unlink(DETAILS.name, dir_fd=folder)
        new = os.open(DETAILS.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder)
    finally:
        os.close(folder)
    with open(new, "w", encoding="utf-8", errors="replace") as file:
        file.write(details)


def _whose(error: Exception) -> str:
    """Whose bug it is: the last method of a task that the error passed through, or else a place in the user's code."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    of_tasks = [frame for frame in frames if isinstance(frame.f_locals.get("self"), Task)]
    if not of_tasks:
        place = own_place(error)
        return f"of {place}" if place else "of Rootstock or of a task or model of your own"
    task = type(of_tasks[-1].f_locals["self"])
    return f"of {task.__module__}:{task.__qualname__}, in {of_tasks[-1].f_code.co_name}"


def _requirements_of(module: str) -> str | None:
    """The name of the `requirements-*.txt` that lists a package, if one does."""
    for file in sorted(Path(__file__).parents[4].glob("requirements-*.txt")):
        names = {re.split(r"[=\s]", line)[0].replace("-", "_") for line in file.read_text().splitlines()}
        if module.partition(".")[0] in names:
            return file.name
    return None
