"""Users of a store: every study that runs on it leaves a record of the objects that it reaches."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.private import entered, is_there, read_json, remove_file
from ..machine.this import user_name
from ..study.identity import short_digest
from ..study.problems import Refusal, on_one_line
from .files import write_json

FOLDER = "users"
UNREADABLE = (OSError, ValueError, KeyError, TypeError)


@dataclass(frozen=True)
class User:
    """One study of one project, with all objects that its runs reached."""

    project: str
    study: str
    person: str
    reaches: frozenset[str]


def record_user(store: str | Path, project: Path, study: str, reaches: set[str]) -> None:
    """Add what a study reaches to its record. A smaller grid removes nothing from it; only `retire_user` removes the
    record."""
    folder = Path(store) / FOLDER
    is_new = not folder.exists()
    with entered(folder, Path(store), make=True) as descriptor:
        if is_new:  # whoever may write into the store may write here
            os.chmod(descriptor, stat.S_IMODE(Path(store).stat().st_mode))
    file = _file(store, project, study)
    reached = sorted(reaches | _reached_before(file, Path(store)))
    content = {"project": str(project), "study": study, "person": user_name(), "reaches": reached}
    write_json(file, content, Path(store))


def users_of(store: str | Path, pass_over: Callable[[str], None] | None = None) -> list[User]:
    """All records of a store. Raise `Refusal` if one cannot be read: what it reaches is unknown, so nothing is garbage.

    A caller that frees nothing gives `pass_over`, which gets the reason; the record is then skipped."""
    tell, found = pass_over or _refuse, []
    for file in _files(Path(store), tell):
        try:
            found.append(_user(read_json(file, Path(store))))
        except Refusal as fault:
            tell(str(fault))
        except UNREADABLE as error:
            tell(on_one_line(f"{file}: cannot be read ({error}); run its study again, or delete the record"))
    return found


def retire_user(store: str | Path, project: Path, study: str) -> bool:
    """Remove a study's record. Return whether there was one."""
    file = _file(store, project, study)
    if not is_there(file, Path(store)):
        return False
    with entered(file.parent, Path(store)) as folder:
        remove_file(file.name, folder)
    return True


def _refuse(fault: str) -> None:
    raise Refusal(fault)


def _reached_before(file: Path, store: Path) -> frozenset[str]:
    """The objects in a record; none if it is missing or cannot be read."""
    try:
        return _user(read_json(file, store)).reaches
    except (Refusal, *UNREADABLE):
        return frozenset()


def _user(content: dict[str, Any]) -> User:
    """A record from its content. Raise one of `UNREADABLE` if it is malformed."""
    words, reaches = (content["project"], content["study"], content["person"]), content["reaches"]
    is_text = isinstance(reaches, list) and all(isinstance(word, str) for word in [*words, *reaches])
    if not is_text or not all(word.isprintable() for word in words):
        raise ValueError("project, study, person and what it reaches are no texts of one line")
    return User(*words, frozenset(reaches))


def _files(store: Path, tell: Callable[[str], None]) -> list[Path]:
    names: list[str] = []
    try:
        with entered(store / FOLDER, store) as folder:
            names = sorted(os.listdir(folder))
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        tell(f"{store / FOLDER}: is no folder; delete it")
    except (OSError, Refusal) as fault:
        tell(str(fault) if isinstance(fault, Refusal) else f"{store / FOLDER}: cannot be read ({fault.strerror})")
    return [store / FOLDER / name for name in names if name.endswith(".json") and not name.startswith(".")]


def _file(store: str | Path, project: Path, study: str) -> Path:
    return Path(store) / FOLDER / f"{short_digest([str(project), study])}.json"
