"""Who uses a store: every study that runs on it leaves a record of what it reaches."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..machine.private import entered, is_there, read_json, remove_file
from ..machine.this import user_name
from ..study.identity import short_digest
from ..study.problems import Refusal
from .files import write_json

FOLDER = "users"


@dataclass(frozen=True)
class User:
    """One study of one project, as it was when it ran last."""

    project: str
    study: str
    person: str
    reaches: frozenset[str]


def record_user(store: str | Path, project: Path, study: str, reaches: set[str]) -> None:
    """Note what a study reaches; its former record is replaced, so what only the former study reached is let go."""
    folder = Path(store) / FOLDER
    is_new = not folder.exists()
    with entered(folder, Path(store), make=True) as descriptor:
        if is_new:  # whoever may write into the store may write there
            os.chmod(descriptor, stat.S_IMODE(Path(store).stat().st_mode))
    content = {"project": str(project), "study": study, "person": user_name(), "reaches": sorted(reaches)}
    write_json(_file(store, project, study), content, Path(store))


def users_of(store: str | Path) -> list[User]:
    """All records of a store. `Refusal` where one cannot be read: what it reaches is unknown, so nothing is garbage."""
    found = []
    for file in _files(Path(store)):
        try:
            found.append(_user(read_json(file, Path(store))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{file}: cannot be read ({error}); run its study again, or delete the record") from None
    return found


def retire_user(store: str | Path, project: Path, study: str) -> bool:
    """Take a study's record back; whether there was one."""
    file = _file(store, project, study)
    if not is_there(file, Path(store)):
        return False
    with entered(file.parent, Path(store)) as folder:
        remove_file(file.name, folder)
    return True


def _user(content: dict[str, Any]) -> User:
    """A record's content; `ValueError` where it is none."""
    words, reaches = (content["project"], content["study"], content["person"]), content["reaches"]
    if not isinstance(reaches, list) or not all(isinstance(word, str) for word in [*words, *reaches]):
        raise ValueError("project, study, person and what it reaches are no texts")
    return User(*words, frozenset(reaches))


def _files(store: Path) -> list[Path]:
    try:
        with entered(store / FOLDER, store) as folder:
            names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise Refusal(f"{store / FOLDER}: is no folder; delete it") from None
    return [store / FOLDER / name for name in names if name.endswith(".json") and not name.startswith(".")]


def _file(store: str | Path, project: Path, study: str) -> Path:
    return Path(store) / FOLDER / f"{short_digest([str(project), study])}.json"
