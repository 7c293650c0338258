"""Words for values that specs hold: what the methods of a paper say of them."""

from collections.abc import Iterable
from typing import Any


def listed(values: Iterable[Any], joined_by: str = "or") -> str:
    """Different values as text in their order: "0.1, 0.25 or 1"; "none" where there are none."""
    texts = list(dict.fromkeys(shown(value) for value in values if value is not None))
    return f" {joined_by} ".join(filter(None, (", ".join(texts[:-1]), texts[-1]))) if texts else "none"


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


def percentages(shares: Iterable[float]) -> str:
    """0.6, 0.1, 0.3 as "60, 10 and 30 %"."""
    return listed((round(100 * share, 6) for share in shares), "and") + " %"


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
