"""What the header of a file says of the tensors in it. Light: no torch, and nothing in a file is run."""

import pickletools
import zipfile
from pathlib import Path
from typing import Any

MOST = 2**20  # bytes of a header; two tensors need a few hundred


def shape_of(file: Path) -> tuple[int, ...] | None:
    """The shape [N, channels, samples] of the first tensor that torch saved in a file; None if unknown or with a 0."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as header:
                return _first_three(header.read(MOST))
    except Exception:  # a file of another format may fail in any way; the training on it says how
        return None


def _first_three(pickled: bytes) -> tuple[int, ...] | None:
    """The first three whole numbers that make a tuple: sizes come before strides."""
    numbers: list[Any] = []
    for code, value, _ in pickletools.genops(pickled):
        if code.name == "TUPLE3" and len(numbers) >= 3:
            return tuple(numbers[-3:]) if min(numbers[-3:]) > 0 else None
        if code.name in ("BININT", "BININT1", "BININT2", "LONG1"):
            numbers.append(value)
        elif "PUT" not in code.name and code.name != "MEMOIZE":
            numbers.clear()
    return None
