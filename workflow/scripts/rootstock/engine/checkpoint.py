"""Checkpoints of a running training: written whole, verified when read, the last two kept."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..machine.private import entered, not_mine, opened, read_json, remove_file
from ..machine.trees import remove_folder
from ..store.files import link_or_copy, write_atomically, write_json
from ..store.objects import StoredObject, store_of
from ..study.identity import sha256_bytes, sha256_of
from ..study.problems import STOP_SIGNALS, Refusal
from .files import load, to_bytes
from .sharding import whole

KEPT = 2


class Checkpoints:
    """The checkpoints of one training, in `folder`: `step_<N>.pt` and, written after it, `step_<N>.json` with its sha256.

    `about` goes into both files: what the training is and how it runs. Every `keep_every` steps one checkpoint is also
    kept for good, beside the folder, as `checkpoint_step_<N>.pt`.
    """

    def __init__(
        self,
        folder: Path,
        spec_hash: str,
        every_steps: int | None,
        every_seconds: float | None,
        say: Callable,
        about: dict[str, Any] | None = None,
        keep_every: int | None = None,
        trust: str | None = None,
    ):
        self.folder, self.spec_hash, self.say = folder, spec_hash, say
        self.store = folder.parent.parent  # no link below it is followed
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.about, self.keep_every, self.trust = about or {}, keep_every, trust
        self.is_resumed = True  # whether the training resumes from the newest checkpoint
        self.last_step, self.last_time = 0, time.monotonic()
        self.mine: list[int] = []  # steps that this training read or wrote, in that order

    def are_due(self, step: int) -> bool:
        by_steps = self.every_steps is not None and step - self.last_step >= self.every_steps
        by_time = self.every_seconds is not None and time.monotonic() - self.last_time >= self.every_seconds
        return by_steps or by_time or self._is_kept(step)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one checkpoint and remove all but the last two. torch writes whole storages, so give tensors their own
        (`to_cpu`)."""
        content = to_bytes(state | self.about)
        file = self.folder / f"step_{step}.pt"
        write_atomically(file, content, self.store)
        history = state.get("history") or [{}]
        described = self.about | {
            "step": step,
            "epoch": state["epoch"],
            "hash": self.spec_hash,
            "world_size": state.get("world_size", 1),
            "loss": history[-1].get("val_loss"),
            "sha256": sha256_bytes(content),
            "bytes": len(content),
        }
        write_json(file.with_suffix(".json"), described, self.store)
        if self._is_kept(step):
            self._keep(file, self.folder.parent / f"checkpoint_step_{step}.pt")
        self.last_step, self.last_time = step, time.monotonic()
        self.mine = [*(own for own in self.mine if own != step), step][-KEPT:]
        self._forget_old()

    def _forget_old(self) -> None:
        """Keep the last two of this process. Others count only until it has two, because anybody can plant a high step
        number."""
        others = [step for step in self._steps() if step not in self.mine]
        for old in others[: max(0, len(others) - KEPT + len(self.mine))]:
            self._remove(old)

    def _keep(self, file: Path, kept: Path) -> None:
        for suffix in (".pt", ".json"):
            with opened(file.with_suffix(suffix), self.store) as content:
                link_or_copy(content, kept.with_suffix(suffix), self.store)

    def _is_kept(self, step: int) -> bool:
        return self.keep_every is not None and step % self.keep_every == 0

    def load_latest(self) -> dict[str, Any] | None:
        """The newest checkpoint that `read_checkpoint` accepts; None if there is none. Each rejected one is named with
        the reason."""
        for step in reversed(self._steps() if self.is_resumed else []):
            try:
                file = self.folder / f"step_{step}.pt"
                state = read_checkpoint(file, self.spec_hash, self.store, self.about.get("code"), self.trust)
            except Refusal as reason:
                self.say(f"checkpoint passed over: {reason}")
                continue
            self.last_step, self.mine = step, [step]
            return state
        return None

    def clear(self) -> None:
        """Remove all checkpoints, whole or not: the training is in the store now."""
        try:
            remove_folder(self.folder, self.store)
        except Refusal as reason:  # the training itself is committed
            self.say(f"checkpoints passed over: {reason}")

    def _steps(self) -> list[int]:
        try:
            with entered(self.folder, self.store) as folder:
                names = os.listdir(folder)
        except FileNotFoundError:
            return []
        found = (re.fullmatch(r"step_([0-9]+)\.json", name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def _remove(self, step: int) -> None:
        with entered(self.folder, self.store) as folder:
            for name in (f"step_{step}.json", f"step_{step}.pt"):
                try:
                    remove_file(name, folder)
                except OSError as error:  # a folder, or another user's
                    self.say(f"{self.folder / name}: stays ({error.strerror})")


def read_checkpoint(
    path: Path,
    spec_hash: str | None = None,
    store: Path | None = None,
    code: str | None = None,
    trust: str | None = None,
) -> dict[str, Any]:
    """Read a checkpoint. Raise `Refusal` if its sha256 is not the recorded one or it belongs to another spec or code.

    Checkpoints are not signed: with `trust`, the key of `run.trust`, only files that nobody else can write are read.
    """
    store = store or store_of(path)
    try:
        described = read_json(path.with_suffix(".json"), store)
        with opened(path, store) as file:
            _require(path, described, sha256_of(file), spec_hash)
            _require_code(path, described, code)
            _require_mine(path, file, trust)
            state = _mapping(load(file), path)
            _require(path, described | {"hash": state.get("hash", spec_hash)}, described["sha256"], spec_hash)
            return state
    except (OSError, ValueError) as error:
        raise Refusal(f"{path}: cannot be read ({error})") from None


def _require_mine(path: Path, file: BinaryIO, trust: str | None) -> None:
    """Raise `Refusal` if there is a key to trust and others may have written the checkpoint."""
    if trust and (reason := not_mine(file)):
        raise Refusal(f"{path}: no checkpoint is signed, and run.trust: {trust} asks for that, for {reason}")


def _require(path: Path, described: dict[str, Any], found: str, spec_hash: str | None) -> None:
    """Raise `Refusal` unless a checkpoint matches its description and the given spec."""
    if spec_hash is not None and described.get("hash") != spec_hash:
        raise Refusal(f"{path}: belongs to {described.get('hash')}, not to {spec_hash}")
    if found != described.get("sha256"):
        raise Refusal(f"{path}: damaged, its sha256 is not the one recorded")


def _require_code(path: Path, described: dict[str, Any], code: str | None) -> None:
    """Raise `Refusal` if other code wrote it. Nobody relies on an unfinished training, so it starts again."""
    if code and described.get("code") not in (None, code):
        raise Refusal(f"{path}: of other code ({described['code']}) than is here now ({code})")


def read_state(path: Path, trust: str | None = None) -> dict[str, Any]:
    """Read and verify a checkpoint, or the last state of a finished training in the store.

    With `trust`, the key of `run.trust`, a file that others can write is rejected, unless it is a signed last state."""
    if path.name != "state.pt":
        return read_checkpoint(path, trust=trust)
    kept = StoredObject(path.parent, trust)
    state = load_state(kept, kept.read()) if kept.is_whole() else None
    if state is None:
        raise Refusal(f"{path}: missing or damaged")
    return state


def load_state(kept: StoredObject, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The last state of a finished training, as described by its metadata; None if it is missing or damaged."""
    with kept.opened_state(metadata) as file:
        return None if file is None else _mapping(load(file), kept.state)


def _mapping(state: Any, path: Path) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise Refusal(f"{path}: holds no state of a training")
    return state


class StopRequest:
    """Whether this process was asked to stop: by SIGTERM, SIGUSR1 (Slurm's warning before a time limit) or Ctrl-C."""

    def __init__(self):
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Listen while a training runs; only a main thread can. After a request it keeps listening: Slurm signals a job
        and its steps, and the second signal would otherwise kill the process while it ends."""
        before = {}
        for number in STOP_SIGNALS:
            try:
                before[number] = signal.signal(number, self._ask)
            except ValueError:
                break
        try:
            yield self
        finally:
            for number, handler in before.items():
                if not self.asked or number == signal.SIGINT:
                    signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        if number == signal.SIGINT:  # a second Ctrl-C does not wait for the checkpoint
            signal.signal(number, signal.default_int_handler)


def to_cpu(value: Any) -> Any:
    """A nested state with all tensors on the CPU, unsharded, each with its own storage."""
    if isinstance(value, torch.Tensor):
        return whole(value.detach()).cpu().clone()
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item) for item in value)
    return value
