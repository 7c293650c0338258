"""One training from its spec to its published files: lock, train unless the store has it, commit, publish."""

import json
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import __version__
from .cluster.cache import on_this_node
from .gpus import granted_gpus
from .launch import is_worker, launch_workers
from .machine.this import user_name
from .records import JobRecord
from .store.objects import StoredObject, opened_verified, require_hash, stored
from .store.signatures import private_key, require_signature
from .study.fields import Section
from .study.identity import canonical, digest
from .study.optimisation import Run
from .study.paths import TENSORBOARD, base_metadata, base_model
from .study.problems import Refusal
from .tasks.registry import TASKS, planner, trainer


@dataclass(frozen=True)
class Job:
    """A spec and where its inputs lie; nothing here but the spec changes a weight."""

    spec: Section
    data: str
    store: str
    base_model: str | None = None
    continues: str | None = None  # hash of a shorter training that this one may go on from
    start: str | None = None  # a checkpoint to go on from, of this training or of the one that the spec names
    expect: dict[str, Any] = field(default_factory=dict)  # of the data, beyond its identity
    run: Run = field(default_factory=Run)
    asked_by: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    record: JobRecord | None = None

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

    def make(context: Any) -> Any:
        planner(job.spec.task).check_data(job.spec, None, job.data)
        if getattr(job.spec, "parent", None) is not None:  # not every task has stages
            context.parent = load_base(
                Path(job.base_model or base_model(job.spec.parent)), job.spec.parent, job.say, job.run.trust
            )
        return trainer(job.spec.task).train_base(job.spec, job.data, job.expect, context)

    return _obtain(job, make)


def train_finetune(job: Job) -> StoredObject:
    """The stored fine-tune of a spec, trained unless it is there; its base model is verified before it is used."""

    def make(context: Any) -> Any:
        base_spec = base = None
        if job.spec.base is not None:
            base = load_base(Path(job.base_model or base_model(job.spec.base)), job.spec.base, job.say, job.run.trust)
            base_spec = planner(job.spec.task).BaseSpec.model_validate(base["spec"])
        planner(job.spec.task).check_data(job.spec, base_spec, job.data)
        outcome = trainer(job.spec.task).train_finetune(job.spec, job.data, job.expect, base, base_spec, context)
        outcome.base_spec = base and base["spec"]
        return outcome

    return _obtain(job, make)


def _state_of(job: Job) -> dict[str, Any] | None:
    """The checkpoint that `job` is to start from, or where the shorter training that it continues ended; None, and a
    reason, where the latter cannot be trusted."""
    from .engine.checkpoint import load_state, read_state

    if job.start:
        return read_state(Path(job.start))
    if not job.continues:
        return None
    shorter = stored(job.store, job.continues)
    state = load_state(shorter)
    if state is not None and job.run.trust:
        require_signature(shorter.read(), job.run.trust, job.continues)
    if state is None:
        job.say(f"{job.continues} left no state to go on from; training from the start")
    return state


def load_base(model: Path, name: str, say: Callable[[str], None] = print, trust: str | None = None) -> dict[str, Any]:
    """A published base model, verified: unharmed, of the hash asked for, what its own spec says, and signed by the owner of
    the key `trust`, where one is given."""
    from .engine.files import load

    metadata = base_metadata(model)
    require_hash(name)
    with opened_verified(on_this_node(model, name, metadata, say), metadata, name) as files:
        if trust:
            require_signature(files.content, trust, name)
        content = load(files.model)
    if not isinstance(content, dict) or content.get("hash") != name or _digest_of_base(content) != name:
        raise Refusal(f"{model}: is not base model {name}; delete it and run again")
    return content


def _digest_of_base(content: dict[str, Any]) -> str:
    """The hash of the spec inside a base model's file."""
    return digest(read_spec(json.dumps(content.get("spec") or {}), "BaseSpec"))


def _obtain(job: Job, make: Callable[[Any], Any]) -> StoredObject:
    """Lock the object; hand it back if it is whole, else train it, here or in several processes."""
    kept = stored(job.store, job.hash)
    if is_worker() and not kept.is_whole():
        _train_and_commit(job, kept, make)
        return kept
    if kept.is_whole():  # no lock needed, so a store that is only readable serves too
        job.say(f"{job.hash} is in the store; nothing to train")
        kept.clear_checkpoints(job.say)
        return kept
    with kept.lock(job.run.wait_seconds, job.say):
        if kept.is_whole():
            job.say(f"{job.hash} was trained meanwhile; nothing to train")
            return kept
        with granted_gpus(job.run.gpus_asked, job.run.device, job.say) as gpus:
            if job.record:
                job.record.update(gpus=gpus)
            if job.run.nodes * job.run.world_size > 1:
                launch_workers(job.run)
            else:
                _train_and_commit(job, kept, make)
    return kept


def _train_and_commit(job: Job, kept: StoredObject, make: Callable[[Any], Any]) -> None:
    key = private_key(job.run.sign_with) if job.run.sign_with else None
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or CUDA refuses to be deterministic
    trainer(job.spec.task)  # before torch, which it loads the quicker way
    import torch  # only where something is trained: handing back a stored model takes no torch

    from .engine.checkpoint import Checkpoints
    from .engine.device import pick_device
    from .engine.distributed import world_of_environment
    from .engine.files import to_bytes
    from .engine.loop import Context

    torch.set_num_threads(job.run.threads)
    torch.set_deterministic_debug_mode("error")  # not by use_deterministic_algorithms: that loads the compiler, 1 s
    device = pick_device(job.run.device)
    world = world_of_environment(device, job.run.collective_timeout)
    say = job.say if world.is_first else (lambda _: None)
    say(f"training {job.hash} on {device}: {world.size} process(es) of {job.run.threads} thread(s)")
    run, about, start = job.run, _about(job), _state_of(job)
    checkpoints = Checkpoints(
        kept.checkpoints, job.hash, run.checkpoint_steps, run.checkpoint_seconds, say, about, run.keep_checkpoints
    )
    checkpoints.is_resumed = not (job.start and start.get("hash") == job.hash)  # else from the one that was chosen
    context = Context(
        device,
        world,
        checkpoints,
        start=start,
        micro_batch_size=run.micro_batch_size,
        compile=run.compile,
        curves=Path(TENSORBOARD.format(hash=job.hash)) if run.tensorboard else None,
        say=say,
    )
    try:
        outcome = make(context)
    except torch.cuda.OutOfMemoryError as error:
        raise Refusal(
            f"run.micro_batch_size: {job.run.micro_batch_size} samples at a time do not fit into the memory of "
            f"{device}; set a smaller one, the result stays the same ({str(error).splitlines()[0]})"
        ) from None
    if not world.is_first:
        return
    spec_json = canonical(job.spec)
    model = outcome.model | {"spec": json.loads(spec_json), "hash": job.hash, "format": 1}
    state = to_bytes(outcome.fitted.last | about) if outcome.fitted.last and not hasattr(job.spec, "base") else None
    resumed_from = start and {name: start.get(name) for name in ("hash", "step")}
    metadata = _metadata(job, outcome, device, world.size) | {"data": job.data, "resumed_from": resumed_from}
    kept.commit(to_bytes(model), metadata, spec_json, state, key)
    checkpoints.clear()
    fitted = outcome.fitted
    say(f"trained {job.hash}: {len(fitted.history)} epochs, {fitted.steps} steps, {fitted.seconds:.1f} s")


def _about(job: Job) -> dict[str, Any]:
    """What a checkpoint says of its training, so that it can be taken up from the file alone."""
    spec = json.loads(canonical(job.spec))
    return {"spec": spec, "hash": job.hash, "data": job.data, "run": job.run.about(), "asked_by": job.asked_by}


def _metadata(job: Job, outcome: Any, device: Any, world_size: int) -> dict[str, Any]:
    """What is recorded beside a model: what it is, how well it does, how it was made, who asked."""
    import torch

    fitted = outcome.fitted
    return {
        "task": job.spec.task,
        "kind": "fine-tune" if hasattr(job.spec, "base") else "base",
        "metrics": outcome.metrics,
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "steps": fitted.steps,
        "trained_steps": fitted.trained_steps,
        "seconds": round(fitted.seconds, 3),
        "base_hash": getattr(job.spec, "base", None),
        "base_spec": outcome.base_spec,
        "versions": {"rootstock": __version__, "python": platform.python_version(), "torch": str(torch.__version__)},
        "run": job.run.about()
        | {"device_used": str(device), "world_size": world_size, "threads": torch.get_num_threads()}
        | {"compile": outcome.fitted.compile},
        "asked_by": {"user": user_name(), "host": socket.gethostname(), **job.asked_by},
    }
