"""What is prepared once and shared: a text, and a teacher's vectors of it."""

from collections.abc import Callable
from pathlib import Path

from ...study.run import Run
from .prepare_text import prepare_text
from .specs import PreparedSpec


def prepare(spec: PreparedSpec, folder: Path, run: Run, say: Callable[[str], None]) -> None:
    """Fill `folder` with what `spec` describes, `manifest.json` last."""
    if spec.teacher is None:
        prepare_text(spec, folder, say)
        return
    from .teacher import prepare_vectors  # text needs no torch

    prepare_vectors(spec, folder, run, say)
