"""The one place where a spec becomes canonical JSON and a hash. No other module hashes specs or lists their keys."""

import hashlib
import json
import re
import unicodedata
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, cast

from pydantic import BaseModel

from .fields import Introduced, Whereabouts

HASH_LENGTH = 16
SHORT_LENGTH = 8
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
HASH_PATTERN = f"[0-9a-f]{{{HASH_LENGTH}}}"


def canonical(spec: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, NFC text. Fields that are None or as `Introduced` are left out.

    Validation gives the numbers of a section their types (5, "5" and 5.0 become 5.0 in a float field), so equal specs
    give equal text.
    """
    return _encoded(_plain(spec))


def with_whereabouts(spec: Any) -> str:
    """Canonical JSON for a job: it also says where things lie, which is not part of the identity."""
    return _encoded(_plain(spec, is_identity=False))


def digest(spec: Any) -> str:
    """The name of a training: the first 16 hex digits of the sha256 of its canonical JSON."""
    return text_digest(canonical(spec))


def text_digest(text: str) -> str:
    """The same hash for a spec that is canonical JSON already, or for any other text."""
    return sha256_text(text)[:HASH_LENGTH]


def short_digest(spec: Any) -> str:
    """8 hex digits, enough to tell the settings of one project apart in a folder name."""
    return sha256_text(canonical(spec))[:SHORT_LENGTH]


def is_hash(text: object) -> TypeGuard[str]:
    """Whether a value is a hash in the form that `digest` returns, and so safe as a part of a path."""
    return isinstance(text, str) and re.fullmatch(HASH_PATTERN, text) is not None


def is_beginning(text: str) -> bool:
    """Whether a text may be a hash or the beginning of one."""
    return re.fullmatch(f"[0-9a-f]{{1,{HASH_LENGTH}}}", text) is not None


def sha256_text(text: str) -> str:
    return sha256_bytes(text.encode())


def sha256_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def uniform(text: str) -> float:
    """A number in [0, 1) that depends only on the text and is uniform over texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / 2**56


def sha256_file(path: str | Path) -> str:
    """sha256 of a file's content, hex."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """sha256 of an open file, hex. The file is left at its start, so that the next read gives what was hashed."""
    file.seek(0)
    found = hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()
    file.seek(0)
    return found


def _plain(value: Any, is_identity: bool = True) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if kind is float:
        return value + 0.0  # -0.0 and 0.0 are one number
    if kind is tuple or kind is list:
        return [_plain(item, is_identity) for item in value]
    if isinstance(value, BaseModel):
        return _told(value, is_identity)
    if isinstance(value, dict):
        return {_plain(str(name)): _plain(v, is_identity) for name, v in value.items() if v is not None}
    return value


def _told(section: BaseModel, is_identity: bool) -> dict[str, Any]:
    told, values = {}, section.__dict__
    for name, untold in _fields(type(section), is_identity):
        value = values[name]
        if value is not None and value not in untold:
            told[name] = _plain(value, is_identity)
    return told


@cache
def _fields(section: type[BaseModel], is_identity: bool) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """The fields of a section that are written, each with the values at which it is left out. Cached, because plans ask
    a million times."""
    told = []
    for name, field in section.model_fields.items():
        if not (is_identity and any(isinstance(mark, Whereabouts) for mark in field.metadata)):
            told.append((name, tuple(mark.value for mark in field.metadata if isinstance(mark, Introduced))))
    return tuple(told)
