"""The store: one folder per hash, complete when its metadata exists, which is written last."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..machine.private import (
    entered,
    is_there,
    json_object,
    not_mine,
    opened,
    read_json,
    remove_file,
    small_content,
)
from ..machine.trees import remove_folder
from ..study.identity import HASH_LENGTH, is_hash, sha256_bytes, sha256_of, text_digest
from ..study.problems import EXIT_INTERRUPTED, Refusal
from .files import link_or_copy, write_atomically, write_json
from .lock import hold, is_held
from .signatures import require_signature, signed

FORMAT = 1


@dataclass(frozen=True)
class Verified:
    """A verified model with its files still open, so that what is loaded or copied is what was verified."""

    model: BinaryIO
    metadata: BinaryIO
    content: dict[str, Any]  # of the metadata


@dataclass(frozen=True)
class StoredObject:
    """One trained model: `model.pt`, `metadata.json` and, during its training, `lock`. No link below its store is
    followed."""

    folder: Path
    trust: str | None = None  # the key of `run.trust`: it must have signed what other users can write

    @property
    def store(self) -> Path:
        return self.folder.parent

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
        """The state from which a longer training continues. It exists only if the schedule allows that exactly."""
        return self.folder / "state.pt"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def is_whole(self) -> bool:
        return is_there(self.metadata, self.store)

    def lock(self, wait_seconds: float | None, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Hold this object, so that nobody else trains it. This process ends if another one takes the lock over."""
        end = partial(os._exit, EXIT_INTERRUPTED)
        return hold(self.folder / "lock", self.store, wait_seconds=wait_seconds, say=say, lost=end)

    def described(self) -> dict[str, Any]:
        """The metadata, not verified; empty if they cannot be read."""
        try:
            return read_json(self.metadata, self.store)
        except (OSError, ValueError):
            return {}

    def commit(
        self,
        model: bytes,
        metadata: dict[str, Any],
        spec_json: str,
        state: bytes | None = None,
        key: Any = None,
        anew: bool = False,
    ) -> None:
        """Keep a finished training: write the model first and its metadata last, signed if there is a `key`.

        A whole object stays as it is, unless the training was repeated (`anew`): then this call replaces it."""
        if self.is_whole():
            if not anew:
                return
            with entered(self.folder, self.store) as folder:
                remove_file(self.metadata.name, folder)
                remove_file(self.state.name, folder)  # of the former training
        write_atomically(self.model, model, self.store)
        if state is not None:
            write_atomically(self.state, state, self.store)
            metadata = metadata | {"state_sha256": sha256_bytes(state)}
        vouched = {"format": FORMAT, "hash": self.hash, "spec": json.loads(spec_json), "spec_json": spec_json}
        metadata = metadata | vouched | {"model_sha256": sha256_bytes(model)}
        write_json(self.metadata, signed(metadata, key) if key else metadata, self.store)

    def clear_checkpoints(self, say: Callable[[str], None] = print) -> None:
        """Remove the checkpoints of a training that was killed after its commit. A read-only store keeps them."""
        try:
            if os.access(self.folder, os.W_OK) and not is_held(self.folder / "lock", self.store):
                remove_folder(self.checkpoints, self.store)
        except (Refusal, OSError) as reason:
            say(f"checkpoints of {self.hash} stay: {reason}")

    @contextmanager
    def opened(self) -> Iterator[Verified]:
        """A whole object, verified, to load or copy."""
        with opened_verified(self.model, self.metadata, self.hash, self.store) as files:
            self._require_trusted(files)
            yield files

    def _require_trusted(self, files: Verified) -> None:
        if self.trust and (reason := not_mine(files.model) or not_mine(files.metadata)):
            require_signature(files.content, self.trust, self.hash, reason)

    def read(self) -> dict[str, Any]:
        """The verified metadata of a whole object."""
        with self.opened() as files:
            return files.content

    @contextmanager
    def opened_state(self, metadata: dict[str, Any]) -> Iterator[BinaryIO | None]:
        """The `state.pt` that `metadata` describes, to load; None if there is none.

        The caller hands in metadata that it trusts. The file could have been replaced since, so it is not read
        again."""
        if not self.is_whole() or not is_there(self.state, self.store):
            yield None
            return
        with opened(self.state, self.store) as file:
            yield file if sha256_of(file) == metadata.get("state_sha256") else None

    def publish_base(self, destination: Path, metadata_destination: Path) -> None:
        """Publish the model under the project's own name. The model comes last, because Snakemake waits for it."""
        with self.opened() as files:
            link_or_copy(files.metadata, metadata_destination)
            link_or_copy(files.model, destination)

    def publish_experiment(self, folder: Path) -> None:
        """Publish a fine-tune as an experiment's folder, `metrics.json` last."""
        with self.opened() as files:
            metadata = files.content
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "metrics.json").unlink(missing_ok=True)  # absent until the folder is whole again
            link_or_copy(files.model, folder / "best_model.pt")
        write_json(folder / "losses.json", metadata["history"])
        write_json(
            folder / "config.json", {key: metadata.get(key) for key in ("spec", "base_spec", "code", "run", "versions")}
        )
        keys = ("hash", "metrics", "epochs", "best_epoch", "seconds", "base_hash", "model_sha256")
        write_json(folder / "metrics.json", {key: metadata[key] for key in keys if key in metadata})


def stored(store: str | Path, name: str, trust: str | None = None) -> StoredObject:
    """An object by its hash. With the key `trust`, an object that others can write is opened only if it is signed."""
    return StoredObject(Path(store) / require_hash(name), trust)


def require_hash(name: str) -> str:
    """Return `name`, which becomes part of paths. Raise `Refusal` if it is not a hash."""
    if not is_hash(name):
        raise Refusal(f"hash: {name!r} is none; it has {HASH_LENGTH} hex digits, see base_models.py list")
    return name


def store_of(file: Path) -> Path:
    """The store of a checkpoint: `<store>/<hash>/checkpoints/step_<N>.pt`, or `<store>/<hash>/checkpoint_step_<N>.pt`."""
    folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    return folder.parent


def verified(model: Path, metadata: Path, name: str) -> dict[str, Any]:
    """Verify a model as `opened_verified` does and return its metadata."""
    with opened_verified(model, metadata, name) as files:
        return files.content


@contextmanager
def opened_verified(model: Path, metadata: Path, name: str, below: Path | None = None) -> Iterator[Verified]:
    """Open a model and verify its sha256 and that its spec hashes to its name. Raise `Refusal` with the reason
    otherwise."""
    with ExitStack() as files:
        described, content = _metadata(files, model, metadata, name, below)
        fix = (
            f"forget {name} and train it again"
            if below
            else f"delete {model} and run again: its store hands it out again"
        )
        try:
            file = files.enter_context(opened(model, below))
            found = sha256_of(file)
        except OSError as error:
            raise Refusal(f"{model}: cannot be read ({error.strerror}); {fix}") from None
        if found != content.get("model_sha256"):
            raise Refusal(f"{model}: damaged, its sha256 is not the one recorded; {fix}")
        yield Verified(file, described, content)


def _metadata(
    files: ExitStack, model: Path, metadata: Path, name: str, below: Path | None
) -> tuple[BinaryIO, dict[str, Any]]:
    """The metadata of a model, checked: the open file and its content."""
    try:
        file = files.enter_context(opened(metadata, below))
        content = json_object(small_content(file, metadata))
        file.seek(0)
    except FileNotFoundError:
        raise Refusal(
            f"{metadata}: missing; the model beside it cannot be trusted; delete {model} and run again"
        ) from None
    except (OSError, ValueError) as error:
        raise Refusal(f"{metadata}: cannot be read ({error}); forget {name} and train it again") from None
    if content.get("format") != FORMAT:
        raise Refusal(f"{metadata}: not of format {FORMAT}; it was written by another version of Rootstock")
    spec_json = str(content.get("spec_json"))
    spec_hash = text_digest(spec_json)
    if content.get("hash") != name or spec_hash != name:
        raise Refusal(
            f"{metadata}: its spec hashes to {spec_hash}, not to {name}; the file was renamed or edited; forget {name}"
        )
    if content.get("spec") != json_object(spec_json):  # valid JSON: its text hashes to the name of a training
        raise Refusal(f"{metadata}: its spec is not what its spec_json says; the file was edited; forget {name}")
    return file, content
