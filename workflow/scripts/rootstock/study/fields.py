"""The types that settings are made of: frozen sections, strict numbers, safe names, fields added later."""

import math
import os
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, dataclass_transform, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

S = TypeVar("S", bound="Section")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


if TYPE_CHECKING:  # tells a type checker what `frozen` means: a subclass may narrow a field, as `task: Literal[…]` does
    from pydantic._internal._model_construction import ModelMetaclass

    @dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
    class Frozen(ModelMetaclass):
        def __hash__(cls) -> int: ...  # sections are keys of caches
else:
    Frozen = type(BaseModel)


class Section(BaseModel, metaclass=Frozen):
    """A frozen group of settings. Unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass(frozen=True)
class Introduced:
    """Marks a field that a spec gained after its first release.

    While the field holds `value`, the canonical form leaves it out, so that every older hash stays the same.
    """

    value: Any


class Whereabouts:
    """Marks a field of a spec that says where something lies. Jobs receive it, but it is not part of the identity."""


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("phrase", "a number")
    return value


def _fifteen_digits(value: float) -> float:
    rounded = float(f"{value:.15g}")
    return value if math.isinf(rounded) else rounded  # the largest floats would round to infinity


def _of_64_bits(value: int) -> int:
    if abs(value) >= 2**63:
        raise PydanticCustomError("phrase", "a whole number below 2^63")
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


NAME_RULE = "a name of letters, digits, '.', '_' and '-' that starts with a letter or digit, without '..'"


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a file or folder, and not a path."""
    return isinstance(value, str) and bool(NAME.fullmatch(value)) and ".." not in value


def readable(text: str) -> str:
    """A text as part of a folder name: what is not safe there becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", text).strip("-._")[:80] or "setting"


LABEL_RULE = "a name of one line, at most 200 bytes long, without '/' and not beginning with '.'"


def is_label(value: Any) -> bool:
    """Whether a value can be a name in any script, and so a part of a file's name. Characters that control a terminal,
    end a line or stand for bytes that are not text are not allowed."""
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not value.startswith(".")
        and not any(letter == "/" or unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value)
        and len(value.encode()) <= 200
    )


def _label(value: str) -> str:
    value = unicodedata.normalize("NFC", value)
    if not is_label(value):
        raise PydanticCustomError("phrase", LABEL_RULE)
    return value


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8. A flag whose bytes are not text cannot, nor can half a surrogate pair
    of JSON."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


PATH_RULE = "a path: text without NUL, no name in it longer than 255 bytes, 4095 in all; ~name is a home that there is"


def is_path(value: str) -> bool:
    """Whether a text can be a path, whether or not anything lies there."""
    if not is_text(value) or "\0" in value:
        return False
    encoded = value.encode()
    return len(encoded) < 4096 and all(len(part) < 256 for part in encoded.split(b"/"))


def at_home(path: str) -> str:
    """A path with a leading `~` or `~name` expanded to the home, as a shell does."""
    return os.path.expanduser(path) if path.startswith("~") and is_path(path) else path


def _possible_path(value: str) -> str:
    if not is_path(value) or at_home(value).startswith("~"):  # no such home: it would become a folder called ~name
        raise PydanticCustomError("phrase", PATH_RULE)
    return at_home(value)


def _safe_name(value: str) -> str:
    if not is_name(value):
        raise PydanticCustomError("phrase", NAME_RULE)
    return value


def _whole(shares: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(shares) - 1) > 1e-6:
        raise PydanticCustomError("phrase", "three shares that sum to 1")
    return shares


Int = Annotated[int, BeforeValidator(_not_bool), AfterValidator(_of_64_bits)]
# 15 digits: as many as survive conversion from text and back, and too few to tell 0.1 + 0.2 from 0.3.
Float = Annotated[float, BeforeValidator(_not_bool), AfterValidator(_fifteen_digits), Field(allow_inf_nan=False)]
Count = Annotated[Int, Field(ge=1)]
Natural = Annotated[Int, Field(ge=0)]
Positive = Annotated[Float, Field(gt=0)]
NonNegative = Annotated[Float, Field(ge=0)]
Probability = Annotated[Float, Field(ge=0, le=1)]
Fraction = Annotated[Float, Field(gt=0, le=1)]
Name = Annotated[str, BeforeValidator(_text), AfterValidator(_safe_name)]
Label = Annotated[str, BeforeValidator(_text), AfterValidator(_label)]  # what people call something, in NFC
PathText = Annotated[str, AfterValidator(_possible_path)]
Shares = Annotated[tuple[Fraction, Fraction, Fraction], AfterValidator(_whole)]  # of train, val and test


def optional(section: type[S], doc: str, without: tuple[str, ...] = (), base: type[Section] = Section) -> type[S]:
    """Return a section with the fields of another, except those in `without`. Each may be None, which is its default;
    `doc` says what None means.

    A type checker sees `section` itself: code that reads a field knows that it is set.
    """
    fields: dict[str, Any] = {
        key: (field.rebuild_annotation() | None, Field(None, description=field.description))
        for key, field in section.model_fields.items()
        if key not in without
    }
    made = create_model(f"Optional{section.__name__}", __base__=base, __doc__=doc, **fields)
    return cast(type[S], made)


@cache
def never_null(section: type[Section]) -> tuple[str, ...]:
    """The fields of a section that cannot be None."""
    return tuple(n for n, field in section.model_fields.items() if type(None) not in get_args(field.annotation))


def inherited(section: type[Section], base: Section, wish: Section, **renamed: str) -> dict[str, Any]:
    """The values of `section`'s fields: each from `wish` if that gives one, otherwise from `base`. `renamed` maps a
    field to its other name in `wish`."""
    given = {name: getattr(wish, renamed.get(name, name), None) for name in section.model_fields}
    return {name: getattr(base, name) if value is None else value for name, value in given.items()}
