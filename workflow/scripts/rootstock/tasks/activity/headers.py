"""What the header of a file of tensors says of them. Light: no torch; nothing of a file is run."""

import pickletools
import zipfile
from pathlib import Path
from typing import Any

MOST = 2**20  # bytes of a header; that of two tensors has a few hundred


def shape_of(file: Path) -> tuple[int, ...] | None:
    """The shape [N, channels, samples] of the first tensor that torch saved in a file; None where it cannot be told or has a 0."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as header:
                return _first_three(header.read(MOST))
    except Exception:  # a file of another form fails its reader in any way; who trains on it tells how
        return None


def _first_three(pickled: bytes) -> tuple[int, ...] | None:
    """The first three whole numbers that make a tuple: sizes stand before strides."""
    numbers: list[Any] = []
    for code, value, _ in pickletools.genops(pickled):
        if code.name == "TUPLE3" and len(numbers) >= 3:
            return tuple(numbers[-3:]) if min(numbers[-3:]) > 0 else None
        if code.name in ("BININT", "BININT1", "BININT2", "LONG1"):
            numbers.append(value)
        elif "PUT" not in code.name and code.name != "MEMOIZE":
            numbers.clear()
    return None
