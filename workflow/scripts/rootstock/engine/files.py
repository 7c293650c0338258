"""Models and tensors on disk: only tensors and plain values are ever unpickled."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..study.problems import Refusal


def to_bytes(value: Any) -> bytes:
    """`torch.save` in memory, so that the bytes do not depend on the file's name."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load_mapped(path: Path, say: Callable[[str], None]) -> Any:
    """Load as `load` does, but leave tensors on disk until they are used; all processes of a machine share them. A file
    that cannot be mapped is read into memory, with a note."""
    why = None if zipfile.is_zipfile(path) else "is in torch's old form (save it again with torch.save)"
    if why is None:
        try:
            return load(path, is_mapped=True)
        except Refusal as reason:
            if "unable to mmap" not in str(reason):
                raise
            why = "lies where no file can be mapped"
    content = load(path)
    say(f"{path}: {why}, so all of it is read into memory")
    return content


def load(source: str | Path | BinaryIO, is_mapped: bool = False) -> Any:
    """Tensors and plain values of a path or an open file, such as a verified one. Raise `Refusal` for anything else in
    it."""
    path = getattr(source, "name", source) if isinstance(source, io.IOBase) else source
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=is_mapped)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        if "GLOBAL numpy" in str(error):
            raise Refusal(
                f"{path}: holds numpy arrays, which are not loaded; save torch.from_numpy(…) of each"
            ) from None
        raise Refusal(f"{path}: holds more than tensors and plain values, or is damaged; it was not loaded") from None
    except Exception as error:  # a damaged file can fail the reader in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise Refusal(f"{path}: truncated or not a torch file ({reason})") from None
