"""Words for values that specs hold: what the methods of a paper say of them."""

from collections.abc import Iterable
from typing import Any


def listed(values: Iterable[Any], joined_by: str = "or") -> str:
    """Different values as text in their order: "0.1, 0.25 or 1"; "none" where there are none."""
    return joined(dict.fromkeys(shown(value) for value in values if value is not None), joined_by) or "none"


def joined(texts: Iterable[str], joined_by: str) -> str:
    *first, last = list(texts) or [""]
    return f"{', '.join(first)} {joined_by} {last}" if first else last


def values_of(specs: Iterable[Any], name: str, joined_by: str = "or") -> str:
    """What the specs have under a name, as `listed`."""
    return listed((getattr(spec, name) for spec in specs), joined_by)


def numbered(specs: Iterable[Any], name: str, one: str, many: str) -> str:
    """What the specs have under a name, a count of things: "1 epoch", "10 or 20 epochs"."""
    told = values_of(specs, name)
    return f"{told} {one if told == '1' else many}"


def shown(value: Any) -> str:
    """A number without needless digits; several as a list."""
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
