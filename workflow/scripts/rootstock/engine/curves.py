"""Curves of losses, metrics, pace and memory for TensorBoard or a tracker, if the run settings ask for them."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..study.problems import Refusal
from .tracker import Tracker


def require_tensorboard() -> None:
    """Raise `Refusal` if the package is not installed."""
    if find_spec("tensorboard") is None:
        raise Refusal("run.tensorboard: true needs a package: .venv/bin/pip install tensorboard, or leave it out")


class Curves:
    """Writes a training's numbers to TensorBoard files in `folder` and to a tracker, if given. On exit, pending rows
    are sent.

    A training that resumes at `step` overwrites what TensorBoard showed beyond it.
    """

    def __init__(self, folder: Path | None, step: int, tracker: Tracker | None = None):
        self.writer, self.tracker = None, tracker
        if folder is None:
            return
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracker is not None:
            self.tracker.close()

    def add(self, step: int, row: dict[str, Any]) -> None:
        named = {name.replace("train_", "train/").replace("val_", "val/"): value for name, value in row.items()}
        numbers = {name: value for name, value in named.items() if isinstance(value, float)}
        if self.tracker is not None:
            self.tracker.add(step, numbers)
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(name, value, step)
            self.writer.flush()
