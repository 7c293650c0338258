"""A trained model of any task, from any file that holds it. Loads torch."""

from pathlib import Path
from typing import Any, BinaryIO

from torch import nn

from ..engine.files import load
from ..engine.models import weights_digest
from ..machine.private import opened
from ..store.model_files import find_file, in_store, recorded_sha256, require_recorded
from ..store.objects import opened_verified, require_hash, stored
from ..study import paths
from ..study.identity import sha256_of
from ..study.own import name_own
from ..study.problems import Refusal
from .code import require_code
from .registry import TASKS


def load_model(
    what: str | Path, store: str | Path = paths.STORE, task: str | None = None, own_class: str | None = None
) -> nn.Module:
    """Return a trained model, ready to call, with what it learned about its data (see the task's `train.load_model`).

    `what` is a file (`base_models/<hash>.pt`, `best_model.pt`, `model.pt`, a checkpoint), an experiment's folder, or
    the hash of a model in `store` or its beginning. Nothing in a file is ever run, and no module is imported that only
    a file names: name a task of your own and the network's `own_class` here, both as `package.module:Class`. Raise
    `Refusal` with one line if the model cannot be loaded.
    """
    if task is not None:
        TASKS.find(task)
    name_own(own_class)
    path = find_file(store, str(what), ("model",))
    content = verified_content(path, store)
    return TASKS.of_file(content["spec"]["task"]).trainer().load_model(content, str(path)).eval()


def verified_content(path: Path, store: str | Path = paths.STORE) -> dict[str, Any]:
    """The whole content of a model file that has the recorded sha256, if any, and that the present code made."""
    with opened(*in_store(path, store)) as file:
        content = content_of(file)
        require_recorded(path, sha256_of(file), recorded_sha256(path, content["hash"], store))
        require_code(content, path)
        return whole(content, path, store)


def content_of(file: BinaryIO) -> dict[str, Any]:
    """The tensors and plain values of an open model file or checkpoint. Raise `Refusal` if the file is neither."""
    content = load(file)
    spec = content.get("spec") if isinstance(content, dict) else None
    if not isinstance(spec, dict) or not isinstance(spec.get("task"), str) or "hash" not in content:
        raise Refusal(f"{file.name}: is not a model of Rootstock")
    return content


def whole(content: dict[str, Any], path: Path, store: str | Path) -> dict[str, Any]:
    """A model file's content with all weights: if the file holds only what changed, the base model supplies the rest.

    The base model is looked for in `store`, in the store where the file lies, and in base_models/. Raise `Refusal` if
    the base model is in none of them, is damaged, or has other weights than those that the file's model learned on.
    """
    wanted = content.get("base_weights")
    if wanted is None:
        return content
    name = str(content["spec"].get("base"))
    base = _base_model(name, (Path(store), path.parent.parent))
    if base is None:
        fix = f"is neither in {store} nor in base_models; train it or copy it there"
        raise Refusal(f"{path}: holds only what changed of its base model {name}, which {fix}")
    if weights_digest(base["model"]) != wanted:
        fix = f"base_models.py forget {content['hash']} and train it again"
        raise Refusal(f"{path}: learned on other weights than its base model {name} has now; {fix}")
    return content | {"model": base["model"] | content["model"]}


def _base_model(name: str, stores: tuple[Path, ...]) -> dict[str, Any] | None:
    """The verified content of a base model; None if it is neither in the stores nor published."""
    for kept in (stored(store, name) for store in stores):
        if kept.is_whole():
            with kept.opened() as files:
                return content_of(files.model)
    published = Path(paths.base_model(require_hash(name)))
    if not published.exists():
        return None
    with opened_verified(published, paths.base_metadata(published), name) as files:
        return content_of(files.model)
