"""A trained model of any task, from any file that holds it. Loads torch."""

from pathlib import Path
from typing import Any

from torch import nn

from ..engine.files import load
from ..store.model_files import find_file
from ..study import paths
from ..study.problems import Refusal
from .registry import TASKS


def load_model(what: str | Path, store: str | Path = paths.STORE) -> nn.Module:
    """A trained model, ready to be called, with what it learned about its data (see the task's `train.load_model`).

    `what` is a file (`base_models/<hash>.pt`, `best_model.pt`, `model.pt`, a checkpoint), an experiment's folder, or the
    hash of a model in `store`, or its beginning. Nothing in a file is ever run. Raises `Refusal` in one line.
    """
    path = find_file(store, str(what), ("model",))
    content = content_of(path)
    return TASKS.find(content["spec"]["task"]).trainer().load_model(content, str(path)).eval()


def content_of(path: str | Path) -> dict[str, Any]:
    """The tensors and plain values of a model file or checkpoint."""
    content = load(path)
    spec = content.get("spec") if isinstance(content, dict) else None
    if not isinstance(spec, dict) or not isinstance(spec.get("task"), str) or "hash" not in content:
        raise Refusal(f"{path}: is not a model of Rootstock")
    return content
