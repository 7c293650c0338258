"""Every language model and checkpoint of a store, from what is written beside them: nothing is loaded. Light: no torch."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...machine.private import is_there, read
from ...store.inventory import inventory
from ...store.objects import store_of
from ...study.optimisation import Run
from ...study.problems import Refusal
from .settings import SPLITS

TRAIN_FIRST = "train one first: make run STUDY=config/studies/language_model_quick_test.yaml"


@dataclass(frozen=True)
class Record:
    """One file that holds a model: a finished one, the last state of a trunk, or a checkpoint on the way."""

    path: Path
    kind: str  # model, state, checkpoint or kept
    hash: str
    spec: dict[str, Any]
    data: str
    step: int
    loss: float | None
    world_size: int
    resumed_from: str
    written: float  # seconds since the epoch
    size: int
    run: dict[str, Any]
    asked_by: dict[str, Any]

    @property
    def about(self) -> str:
        return f"{self.spec['mode']} {self.spec.get('domain') or 'general'}" if "mode" in self.spec else "trunk"

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(self.written, UTC).strftime("%Y-%m-%d %H:%M:%S")

    @property
    def passes(self) -> float | None:
        """Passes over the text, where its manifest is still there; None where not."""
        return passes(self.spec, self.step, self.data)


def records(store: str | Path) -> list[Record]:
    """All of a store, the newest first. A file whose description cannot be read is not listed."""
    found = []
    for entry in inventory(store):
        if entry.fault:
            raise Refusal(entry.fault)
        folder = Path(store) / entry.name
        found += _finished(folder)
        for pattern, kind in (("checkpoints/step_*.json", "checkpoint"), ("checkpoint_step_*.json", "kept")):
            found += [record for file in folder.glob(pattern) if (record := _checkpoint(file, kind))]
    return sorted(found, key=lambda record: (record.written, record.step), reverse=True)


def find(store: str | Path, wanted: str | None, kinds: tuple[str, ...]) -> Path:
    """The file that a user means: a path, an experiment's folder, the beginning of a hash, or the newest of some kinds."""
    if wanted and (path := Path(wanted)).exists():
        return path / "best_model.pt" if path.is_dir() else path
    there = [record for record in records(store) if record.kind in kinds]
    if not there:
        raise Refusal(f"{store}: holds no language model; {TRAIN_FIRST}")
    chosen = [record for record in there if record.hash.startswith(wanted or "")]
    if not chosen:
        raise Refusal(f"{wanted}: is neither a file nor the hash of a language model here; see list_checkpoints.py")
    if wanted and len({record.hash for record in chosen}) > 1:
        raise Refusal(f"{wanted}: names {len({record.hash for record in chosen})} models; give more of the hash")
    return chosen[0].path


def record_of(path: Path) -> Record:
    """What is written beside one file."""
    kind = {"model.pt": "model", "state.pt": "state"}.get(path.name)
    if kind is None:
        record = _checkpoint(path.with_suffix(".json"), "checkpoint")
    else:
        record = next((record for record in _finished(path.parent) if record.kind == kind), None)
    if record is None:
        raise Refusal(
            f"{path}: nothing beside it says what it holds; give a checkpoint of the store, see list_checkpoints.py"
        )
    return record


def passes(spec: dict[str, Any], step: int, data: str) -> float | None:
    """How often a training has gone over its text after so many steps; None where the text's manifest is gone."""
    if "batch_size" not in spec:
        return None
    try:
        manifest = json.loads((Path(data) / "manifest.json").read_text())
        names = [spec["domain"]] if spec.get("domain") else list(manifest["domains"])
        tokens = sum(shard["tokens"] for name in names for shard in manifest["domains"][name][SPLITS[0]])
    except (OSError, ValueError, KeyError):
        return None
    begun = spec.get("resumed_from") or {"samples": 0, "step": 0}
    samples = begun["samples"] + (step - begun["step"]) * spec["batch_size"]
    return samples * spec["model"]["context_length"] / (tokens * spec.get("target_data_pct", 1.0))


def _finished(folder: Path) -> list[Record]:
    try:
        metadata = json.loads(read(folder / "metadata.json", folder.parent))
        if metadata["task"] != "language_model":
            return []
        history, best = metadata["history"], metadata["best_epoch"]
        common = {
            "hash": metadata["hash"],
            "spec": metadata["spec"],
            "data": metadata["data"],
            "world_size": metadata["run"]["world_size"],
            "resumed_from": _resumed(metadata.get("resumed_from")),
            "run": {k: v for k, v in metadata["run"].items() if k in Run.model_fields},
            "asked_by": {k: v for k, v in metadata["asked_by"].items() if k in ("study", "name")},
        }
        loss = history[best - 1]["val_loss"] if history else None
        last = history[-1]["val_loss"] if history else None
        return [
            Record(file, kind, step=metadata["steps"], loss=value, **common, **_on_disk(file))
            for kind, value in (("state", last), ("model", loss))
            if is_there(file := folder / f"{kind}.pt", folder.parent)
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []


def _checkpoint(description: Path, kind: str) -> Record | None:
    """What lies in an object's folder, or in `checkpoints` of it; `Refusal` where that is a link."""
    file = description.with_suffix(".pt")
    store = store_of(file)
    try:
        content = json.loads(read(description, store))
        if content["spec"]["task"] != "language_model" or not is_there(file, store):
            return None
        resumed = content["spec"].get("resumed_from")
        names = ("hash", "spec", "data", "step", "loss", "world_size", "run", "asked_by")
        return Record(file, kind, **{n: content[n] for n in names}, resumed_from=_resumed(resumed), **_on_disk(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _resumed(resumed: dict[str, Any] | None) -> str:
    return f"{resumed['hash']}@{resumed['step']}" if resumed else ""


def _on_disk(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"written": status.st_mtime, "size": status.st_size}
