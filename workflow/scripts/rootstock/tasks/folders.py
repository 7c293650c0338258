"""Folders of pretrained models: what all tasks read alike. Their content is not trusted, never run. Light: no torch."""

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
    """The folder's config.json; None if it is missing or cannot be read."""
    try:
        return read_json(folder / "config.json")
    except (OSError, ValueError, Refusal):
        return None


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def odd_counts(config: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    """A phrase for each of the named sizes in a config.json that is not a valid size."""
    for name in names:
        if not is_count(config.get(name)):
            yield f"has in config.json {name}: {show(config.get(name))}, which is no whole number of at least 1"


def unchanged_folder(
    given: str | None, content: str | None, fingerprint: Callable[[Path, Fingerprints], str], key: str
) -> Path:
    """The folder that a plan identified by its content. Raise `Refusal`, which names the setting `key`, if the folder
    is gone or holds another model now."""
    folder = folder_of(given or "")
    try:
        is_same = bool(given) and folder.is_dir() and fingerprint(folder, Fingerprints()) == content
    except (OSError, ValueError):  # one of its files is gone
        is_same = False
    if not is_same:
        raise Refusal(f"{key}: {given or 'a model in a folder'} is gone or changed since it was planned; plan again")
    return folder
