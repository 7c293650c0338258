"""Folders of pretrained models, as far as all tasks read them alike. What is in one is not trusted, and never run. Light: no torch."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..machine.private import read_json
from ..study.fingerprints import Fingerprints
from ..study.problems import Refusal, show


def folder_of(given: str) -> Path:
    return Path(os.path.expanduser(given))


def config_of(folder: Path) -> dict[str, Any] | None:
    """Its config.json; None where there is none that can be read."""
    try:
        return read_json(folder / "config.json")
    except (OSError, ValueError, Refusal):
        return None


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def odd_counts(config: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    """What is wrong with each of these sizes in a config.json that is no size, a phrase each."""
    for name in names:
        if not is_count(config.get(name)):
            yield f"has in config.json {name}: {show(config.get(name))}, which is no whole number of at least 1"


def unchanged_folder(
    given: str | None, content: str | None, fingerprint: Callable[[Path, Fingerprints], str], key: str
) -> Path:
    """The folder that a plan knew by its content; `Refusal`, in the words of the setting `key`, where it is gone or holds another
    model now."""
    folder = folder_of(given or "")
    try:
        is_same = bool(given) and folder.is_dir() and fingerprint(folder, Fingerprints()) == content
    except (OSError, ValueError):  # a file of it is gone
        is_same = False
    if not is_same:
        raise Refusal(f"{key}: {given or 'a model in a folder'} is gone or changed since it was planned; plan again")
    return folder
