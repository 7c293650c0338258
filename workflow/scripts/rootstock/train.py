"""One training from its spec to its published files: lock, train unless the store has it, commit, publish."""

import getpass
import json
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__
from .store.objects import StoredObject, stored, verified
from .study.fields import Section
from .study.identity import canonical, digest
from .study.optimisation import Run
from .study.paths import base_metadata, base_model
from .study.problems import Refusal
from .tasks.registry import TASKS, planner, trainer


@dataclass(frozen=True)
class Job:
    """A spec and where its inputs lie; nothing here but the spec changes a weight."""

    spec: Section
    data: str
    store: str
    base_model: str | None = None
    run: Run = field(default_factory=Run)
    wait_seconds: float | None = None
    asked_by: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print

    @property
    def hash(self) -> str:
        return digest(self.spec)


def read_spec(text: str, kind: str, task: str | None = None) -> Section:
    """A spec from its JSON; `kind` is BaseSpec, FinetuneSpec or another spec class of the task's light module."""
    try:
        content = json.loads(text)
        task = task or content["task"]
        spec = getattr(planner(task), kind).model_validate(content) if task in TASKS else None
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"--spec: not a {kind}: {' '.join(str(error).split())[:300]}") from None
    if spec is None:
        raise Refusal(f"--spec: task {task!r} unknown; choose {', '.join(TASKS)}")
    return spec


def train_base(job: Job) -> StoredObject:
    """The stored base model of a spec, trained unless it is there."""

    def make(device) -> Any:
        planner(job.spec.task).check_data(job.spec, None, job.data)
        return trainer(job.spec.task).train_base(job.spec, job.data, device, job.say)

    return _obtain(job, make)


def train_finetune(job: Job) -> StoredObject:
    """The stored fine-tune of a spec, trained unless it is there; its base model is verified before it is used."""

    def make(device) -> Any:
        base_spec = base = None
        if job.spec.base is not None:
            base = load_base(Path(job.base_model or base_model(job.spec.base)), job.spec.base)
            base_spec = planner(job.spec.task).BaseSpec.model_validate(base["spec"])
        planner(job.spec.task).check_data(job.spec, base_spec, job.data)
        outcome = trainer(job.spec.task).train_finetune(job.spec, job.data, base, base_spec, device, job.say)
        outcome.base_spec = base and base["spec"]
        return outcome

    return _obtain(job, make)


def load_base(model: Path, name: str) -> dict[str, Any]:
    """A published base model, verified: unharmed, of the hash asked for, and what its own spec says."""
    from .engine.files import load

    verified(model, base_metadata(model), name)
    content = load(model)
    if not isinstance(content, dict) or content.get("hash") != name or digest_of(content) != name:
        raise Refusal(f"{model}: is not base model {name}; delete it and run again")
    return content


def digest_of(content: dict[str, Any]) -> str:
    """The hash of the spec inside a model file."""
    spec = content.get("spec") or {}
    kind = "FinetuneSpec" if "mode" in spec else "BaseSpec"
    return digest(read_spec(json.dumps(spec), kind))


def _obtain(job: Job, make: Callable[[Any], Any]) -> StoredObject:
    kept = stored(job.store, job.hash)
    with kept.lock(job.wait_seconds, job.say):
        if kept.is_whole():
            job.say(f"{job.hash} is in the store; nothing to train")
        else:
            _train_and_commit(job, kept, make)
    return kept


def _train_and_commit(job: Job, kept: StoredObject, make: Callable[[Any], Any]) -> None:
    import torch  # only where something is trained: handing back a stored model takes no torch

    from .engine.device import leased_device
    from .engine.files import to_bytes

    torch.set_num_threads(job.run.threads)
    torch.use_deterministic_algorithms(True)
    started = time.time()
    with leased_device(job.run.device, Path(tempfile.gettempdir()) / f"rootstock-gpus-{os.getuid()}") as device:
        job.say(f"training {job.hash} on {device} with {job.run.threads} thread(s)")
        outcome = make(device)
    spec_json = canonical(job.spec)
    model = outcome.model | {"spec": json.loads(spec_json), "hash": job.hash, "format": 1}
    seconds = time.time() - started
    metadata = {
        "task": job.spec.task,
        "metrics": outcome.metrics,
        "history": outcome.history,
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "seconds": round(seconds, 3),
        "base_hash": getattr(job.spec, "base", None),
        "base_spec": outcome.base_spec,
        "versions": {"rootstock": __version__, "python": platform.python_version(), "torch": str(torch.__version__)},
        "run": job.run.model_dump() | {"device_used": str(device)},
        "asked_by": {"user": _user(), "host": socket.gethostname(), **job.asked_by},
    }
    kept.commit(to_bytes(model), metadata, spec_json)
    job.say(f"trained {job.hash}: {outcome.epochs} epochs, {outcome.steps} steps, {seconds:.1f} s")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
