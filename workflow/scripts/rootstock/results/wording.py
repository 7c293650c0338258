"""Values of specs in words, for the methods section of a paper."""

from collections.abc import Iterable
from typing import Any


def listed(values: Iterable[Any], joined_by: str = "or") -> str:
    """Distinct values as text in their order: "0.1, 0.25 or 1"; "none" if there are none."""
    return joined(dict.fromkeys(shown(value) for value in values if value is not None), joined_by) or "none"


def joined(texts: Iterable[str], joined_by: str) -> str:
    *first, last = list(texts) or [""]
    return f"{', '.join(first)} {joined_by} {last}" if first else last


def values_of(specs: Iterable[Any], name: str, joined_by: str = "or") -> str:
    """The values of one field of the specs, as `listed` writes them."""
    return listed((getattr(spec, name) for spec in specs), joined_by)


def numbered(specs: Iterable[Any], name: str, one: str, many: str) -> str:
    """The values of one field of the specs that counts things: "1 epoch", "10 or 20 epochs"."""
    told = values_of(specs, name)
    return f"{told} {one if told == '1' else many}"


def shown(value: Any) -> str:
    """A value as text: a number without needless digits, several values as a list."""
    if isinstance(value, tuple | list):
        return listed(value, "and")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def percentages(shares: Iterable[float], joined_by: str = "and") -> str:
    """0.6, 0.1, 0.3 as "60, 10 and 30 %"."""
    return joined((f"{round(100 * share, 6):g}" for share in shares), joined_by) + " %"


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
