"""What is prepared once and shared: a text, and a teacher's vectors of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .prepare_text import prepare_text
from .settings import PreparedSpec


def prepare(spec: PreparedSpec, folder: Path, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Fill `folder` with what `spec` describes, `manifest.json` last; return the manifest."""
    if spec.teacher is None:
        return prepare_text(spec, folder)
    from .teacher import prepare_vectors  # text needs no torch

    return prepare_vectors(spec, folder, say)
