"""Losses, metrics and what a training takes as curves for TensorBoard, where the run settings ask for them."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..study.problems import Refusal


def require_tensorboard() -> None:
    """`Refusal` where the package is not installed."""
    if find_spec("tensorboard") is None:
        raise Refusal("run.tensorboard: true needs a package: .venv/bin/pip install tensorboard, or leave it out")


class Curves:
    """Writes numbers of a training into `folder`; without a folder it does nothing.

    A training that is taken up at `step` overwrites what it had shown beyond.
    """

    def __init__(self, folder: Path | None, step: int):
        self.writer = None
        if folder is None:
            return
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, step: int, row: dict[str, Any]) -> None:
        if self.writer is None:
            return
        for name, value in row.items():
            if isinstance(value, float):
                self.writer.add_scalar(name.replace("train_", "train/").replace("val_", "val/"), value, step)
        self.writer.flush()
