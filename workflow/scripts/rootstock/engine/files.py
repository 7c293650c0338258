"""Models and tensors on disk: never unpickled beyond tensors and plain values."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..study.problems import Refusal


def to_bytes(value: Any) -> bytes:
    """`torch.save` in memory: the same content gives the same bytes, whatever the file will be called."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(source: str | Path | BinaryIO, is_mapped: bool = False) -> Any:
    """Tensors and plain values of a file, or of one that is open, such as one that was verified; code in it is refused, not run.

    `is_mapped`: tensors of a file by its path stay on disk until they are used, where the file's form allows that.
    """
    path = getattr(source, "name", source) if isinstance(source, io.IOBase) else source
    try:
        mmap = is_mapped and zipfile.is_zipfile(source)
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap)
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
