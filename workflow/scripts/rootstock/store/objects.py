"""The store: a folder a hash, complete when its metadata exists, written last."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..study.identity import sha256_file, sha256_text
from ..study.problems import EXIT_INTERRUPTED, Refusal
from .files import link_or_copy, write_atomically, write_json
from .lock import hold, is_held

FORMAT = 1


@dataclass(frozen=True)
class StoredObject:
    """One trained model: `model.pt`, `metadata.json` and, while it is trained, `lock`."""

    folder: Path

    @property
    def hash(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata.json"

    @property
    def state(self) -> Path:
        """Where a longer training may go on; only where its schedule allows that exactly."""
        return self.folder / "state.pt"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def is_whole(self) -> bool:
        return self.metadata.exists()

    def lock(self, wait_seconds: float | None, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Hold this object, so that nobody else trains it meanwhile; where somebody else took it over, this process ends."""
        return hold(self.folder / "lock", wait_seconds=wait_seconds, say=say, lost=lambda: os._exit(EXIT_INTERRUPTED))

    def commit(self, model: bytes, metadata: dict[str, Any], spec_json: str, state: bytes | None = None) -> None:
        """Keep a finished training: the model first, the metadata that vouches for it last. What is kept stays as it is."""
        if self.is_whole():
            return
        write_atomically(self.model, model)
        if state is not None:
            write_atomically(self.state, state)
            metadata = metadata | {"state_sha256": sha256_file(self.state)}
        vouched = {"format": FORMAT, "hash": self.hash, "spec": json.loads(spec_json), "spec_json": spec_json}
        write_json(self.metadata, metadata | vouched | {"model_sha256": sha256_file(self.model)})

    def clear_checkpoints(self) -> None:
        """Remove what a training left that was killed after its commit; a store that is only readable keeps it."""
        if self.checkpoints.is_dir() and os.access(self.folder, os.W_OK) and not is_held(self.folder / "lock"):
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def read(self) -> dict[str, Any]:
        """The verified metadata of a whole object."""
        return verified(self.model, self.metadata, self.hash)

    def read_state(self) -> Path | None:
        """The verified `state.pt`, or None where there is none to trust."""
        if not self.is_whole() or not self.state.exists():
            return None
        return self.state if sha256_file(self.state) == self.read().get("state_sha256") else None

    def publish_base(self, destination: Path, metadata_destination: Path) -> None:
        """Show the model under the project's own name; the model last, for it is what Snakemake waits for."""
        self.read()
        link_or_copy(self.metadata, metadata_destination)
        link_or_copy(self.model, destination)

    def publish_experiment(self, folder: Path) -> None:
        """Show a fine-tune as an experiment's folder; `metrics.json` last."""
        metadata = self.read()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").unlink(missing_ok=True)  # until it is whole again, it is not there
        link_or_copy(self.model, folder / "best_model.pt")
        write_json(folder / "losses.json", metadata["history"])
        write_json(folder / "config.json", {key: metadata.get(key) for key in ("spec", "base_spec", "run", "versions")})
        keys = ("hash", "metrics", "epochs", "best_epoch", "seconds", "base_hash")
        write_json(folder / "metrics.json", {key: metadata[key] for key in keys if key in metadata})


def stored(store: str | Path, name: str) -> StoredObject:
    return StoredObject(Path(store) / name)


def verified(model: Path, metadata: Path, name: str) -> dict[str, Any]:
    """The metadata of a model whose file is unharmed and whose spec hashes to its name; else `Refusal` says why."""
    try:
        content = json.loads(metadata.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(
            f"{metadata}: missing; the model beside it cannot be trusted; delete {model} and run again"
        ) from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{metadata}: cannot be read ({error}); forget {name} and train it again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Refusal(f"{metadata}: not of format {FORMAT}; it was written by another version of Rootstock")
    spec_hash = sha256_text(str(content.get("spec_json")))[: len(name)]
    if content.get("hash") != name or spec_hash != name:
        raise Refusal(
            f"{metadata}: its spec hashes to {spec_hash}, not to {name}; the file was renamed or edited; forget {name}"
        )
    try:
        found = sha256_file(model)
    except OSError as error:
        raise Refusal(f"{model}: cannot be read ({error.strerror}); forget {name} and train it again") from None
    if found != content.get("model_sha256"):
        raise Refusal(f"{model}: damaged, its sha256 is not the one recorded; forget {name} and train it again")
    return content
