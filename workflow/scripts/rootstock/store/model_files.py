"""The model files of a store, from the descriptions beside them: no model is loaded. Light: no torch."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ..machine.private import is_there, read_json
from ..study import paths
from ..study.identity import is_hash
from ..study.problems import Refusal
from ..study.run import Run
from ..study.told import printable
from .inventory import inventory
from .objects import require_hash, store_of, stored

TRAIN_FIRST = "train one first: make run STUDY=…"


@dataclass(frozen=True)
class ModelFile:
    """A finished model, the last state of a base training, or a checkpoint of a running or killed training."""

    path: Path
    kind: str  # model, state, checkpoint, or kept (a checkpoint that stays)
    hash: str
    spec: dict[str, Any]
    data: str
    step: int
    epochs: int  # completed ones
    loss: float | None  # on the data that chooses the epoch
    world_size: int
    resumed_from: str
    written: float  # seconds since 1970
    size: int  # bytes
    run: dict[str, Any]
    asked_by: dict[str, Any]

    @property
    def task(self) -> str:
        return self.spec["task"]

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(self.written, UTC).strftime("%Y-%m-%d %H:%M:%S")


def model_files(store: str | Path, task: str | None = None) -> list[ModelFile]:
    """All model files of a store, or of one task, the newest first.

    Damaged or refused objects and files with unreadable descriptions are named on stderr and skipped."""
    found, faults = [], []
    for entry in inventory(store):
        faults += [entry.fault] if entry.fault else []
        for read in () if entry.fault else _of_object(Path(store) / entry.name):
            try:
                found += read()
            except Refusal as reason:
                faults.append(str(reason))
    for fault in faults:
        print(printable(fault), file=sys.stderr)
    mine = [file for file in found if task in (None, file.task)]
    return sorted(mine, key=lambda file: (file.written, file.step), reverse=True)


def find_file(
    store: str | Path,
    wanted: str | None,
    kinds: tuple[str, ...],
    task: str | None = None,
    what: str = "model",
    hint: str = TRAIN_FIRST,
) -> Path:
    """The file that a user means by a path, an experiment's folder or the beginning of a hash; without these the newest
    of `kinds`."""
    if wanted is not None and not wanted.strip():
        raise Refusal(f"{wanted!r}: names nothing; give a file, an experiment's folder or a hash")
    if wanted and _exists(path := Path(wanted)):
        return _in_folder(path) if path.is_dir() else path
    there = [file for file in model_files(store, task) if file.kind in kinds]
    if not there:
        raise Refusal(f"{store}: holds no {what}; {hint}")
    chosen = [file for file in there if file.hash.startswith(wanted or "")]
    if not chosen:
        raise Refusal(f"{wanted}: is neither a file nor the hash of a {what} here; see list_checkpoints.py")
    if wanted and len({file.hash for file in chosen}) > 1:
        raise Refusal(f"{wanted}: names {len({file.hash for file in chosen})} models; give more of the hash")
    return chosen[0].path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a null byte
        return False


def _in_folder(folder: Path) -> Path:
    """The model in the folder of an experiment or of a stored object."""
    for name in ("best_model.pt", "model.pt"):
        if (folder / name).is_file():
            return folder / name
    raise Refusal(f"{folder}: holds neither best_model.pt nor model.pt; give an experiment's folder, a file or a hash")


def described(path: Path, store: str | Path | None = None) -> ModelFile:
    """The description of a stored checkpoint, or of the last state of a finished training. If there is none, raise
    `Refusal` with the reason and, for a finished model, with the file of `store` from which its training continues."""
    if not _exists(path):
        raise Refusal(f"{path}: no such file; list_checkpoints.py shows what there is")
    if path.is_dir():
        raise Refusal(f"{path}: is a folder; name a checkpoint in it, see list_checkpoints.py")
    if path.name in ("model.pt", "best_model.pt") or is_hash(path.stem):
        raise Refusal(f"{path}: is a finished model, {after_its_end(path, store or paths.STORE)}")
    is_state = path.name == "state.pt"
    beside = _finished(path.parent) if is_state else _checkpoint(path.with_suffix(".json"), "checkpoint")
    found = next((file for file in beside if not is_state or file.kind == "state"), None)
    if found is None:
        fix = "give a checkpoint of the store, see list_checkpoints.py"
        raise Refusal(f"{path}: nothing beside it says what it holds; {fix}")
    return found


def after_its_end(model: Path, store: str | Path) -> str:
    """How to continue the training of a finished model, although its own file holds no optimizer state."""
    folder = Path(store) / model.stem if is_hash(model.stem) else model.parent
    if (folder / "state.pt").is_file():
        return f"its training continues from {folder / 'state.pt'} with another --max-epochs or --max-steps"
    return "which kept no state to continue from; a study with a larger budget trains it again"


def recorded_sha256(file: Path, name: str, store: str | Path) -> tuple[Path, str] | None:
    """Return where the sha256 of a model file or checkpoint of hash `name` is recorded, and the sha256; None if
    nowhere.

    The first that exists counts: the description beside the file, the store's metadata, an experiment's
    `metrics.json`."""
    kept = stored(store, require_hash(name))
    places = [
        (file.with_suffix(".json"), "sha256"),
        (file.with_name("metadata.json"), "state_sha256" if file.name == "state.pt" else "model_sha256"),
        (paths.base_metadata(file), "model_sha256"),
        (kept.metadata, "model_sha256"),
    ]
    if file.name == "best_model.pt":
        places.append((file.with_name("metrics.json"), "model_sha256"))
    for description, key in places:
        try:
            content = read_json(*in_store(description, store))
            if key in content or description.name != "metrics.json":  # earlier versions wrote none there
                return description, str(content.get(key))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Refusal(f"{description}: cannot be read ({error}); {file} cannot be trusted") from None
    return None


def in_store(path: Path, store: str | Path) -> tuple[Path, Path | None]:
    """A path and, if it lies below the store, the store: no link is followed there (see `machine.private.opened`)."""
    inner = os.path.relpath(os.path.abspath(path), os.path.abspath(store))
    if inner.split(os.sep)[0] == os.pardir:
        return path, None
    return Path(store) / inner, Path(store)


def require_recorded(file: Path, found: str, recorded: tuple[Path, str] | None) -> None:
    """Raise `Refusal` if a file's sha256 is not the recorded one."""
    if recorded and found != recorded[1]:
        raise Refusal(f"{file}: damaged, its sha256 is not the one recorded in {recorded[0]}; {_mended(file)}")


def _mended(file: Path) -> str:
    """What to do about a damaged file."""
    match file.name:
        case "model.pt" | "state.pt":
            return f"base_models.py forget {file.parent.name}, and train it again"
        case "best_model.pt":
            return f"delete {file.parent} and run again: its store hands it out again"
    return f"delete {file}" + (" and run again: its store hands it out again" if is_hash(file.stem) else "")


def _of_object(folder: Path) -> Iterator[Callable[[], list[ModelFile]]]:
    """One function per description in an object's folder, which reads it."""
    yield partial(_finished, folder)
    for pattern, kind in (("checkpoints/step_*.json", "checkpoint"), ("checkpoint_step_*.json", "kept")):
        for file in folder.glob(pattern):
            yield partial(_checkpoint, file, kind)


def _finished(folder: Path) -> list[ModelFile]:
    return _read(folder / "metadata.json", _models_of)


def _checkpoint(description: Path, kind: str) -> list[ModelFile]:
    return _read(description, lambda content: [_checkpoint_of(description, kind, content)])


def _read(description: Path, make: Callable[[dict[str, Any]], list[ModelFile]]) -> list[ModelFile]:
    """The files that a description is about; none if it or its file is gone. Raise `Refusal` if it is malformed."""
    try:
        content = read_json(description, store_of(description))
        return [_typed(file) for file in make(content | {"folder": description.parent})]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise Refusal(
            f"{description}: cannot be read ({type(error).__name__}: {error}); what it describes is passed over"
        ) from None


def _typed(file: ModelFile) -> ModelFile:
    """The same file, checked: raise `TypeError`, `ValueError` or `OverflowError` for a value that no list can show."""
    counts = (file.step, file.epochs, file.world_size)
    mappings = (file.spec, file.run, file.asked_by)
    if not all(isinstance(word, str) and word.isprintable() for word in (file.hash, file.task, file.resumed_from)):
        raise TypeError("a text is none")
    if not all(isinstance(mapping, dict) for mapping in mappings) or not isinstance(file.data, str | None):
        raise TypeError("a mapping is none")
    if not all(isinstance(count, int) and abs(count) < 2**63 for count in counts):
        raise TypeError("a count is none")
    return replace(file, loss=None if file.loss is None else float(file.loss))


def _models_of(metadata: dict[str, Any]) -> list[ModelFile]:
    history, best = metadata["history"], metadata["best_epoch"]
    losses = {
        "state": history[-1]["val_loss"] if history else None,
        "model": history[best - 1]["val_loss"] if history else None,
    }
    common = {
        **{name: metadata[name] for name in ("hash", "spec", "data")},
        "step": metadata["steps"],
        "epochs": metadata["epochs"],
        "world_size": metadata["run"]["world_size"],
        "resumed_from": _resumed(metadata.get("resumed_from")),
        "run": {k: v for k, v in metadata["run"].items() if k in Run.model_fields},
        "asked_by": {k: v for k, v in metadata["asked_by"].items() if k in ("study", "name")},
    }
    files = {kind: metadata["folder"] / f"{kind}.pt" for kind in losses}
    return [
        ModelFile(file, kind, loss=losses[kind], **common, **_on_disk(file))
        for kind, file in files.items()
        if is_there(file, store_of(file))
    ]


def _checkpoint_of(description: Path, kind: str, content: dict[str, Any]) -> ModelFile:
    file, names = (
        description.with_suffix(".pt"),
        ("hash", "spec", "data", "step", "loss", "world_size", "run", "asked_by"),
    )
    if not is_there(file, store_of(file)):
        raise FileNotFoundError(file)
    own = {name: content[name] for name in names} | {"resumed_from": _resumed(content["spec"].get("resumed_from"))}
    return ModelFile(file, kind, epochs=content["epoch"] - 1, **own, **_on_disk(file))


def _resumed(resumed: dict[str, Any] | None) -> str:
    return f"{resumed['hash']}@{resumed['step']}" if resumed else ""


def _on_disk(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"written": status.st_mtime, "size": status.st_size}
