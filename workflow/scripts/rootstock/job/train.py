"""One training from its spec to the store: lock, return the stored model if there is one, else train and commit."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.memory import keep_freed_memory
from ..store.objects import StoredObject
from ..store.signatures import private_key
from ..study.identity import canonical
from ..study.own import name_own
from ..study.parts import Inputs, Start
from ..study.paths import TENSORBOARD
from ..study.problems import Refusal
from ..study.spec import BaseSpec
from ..tasks.code import ANEW, other_code
from .former import adopt_former
from .gpus import granted_gpus, trainings_on_a_gpu
from .job import Job
from .launch import is_worker, launch_workers
from .metadata import metadata_of
from .start import start_of, state_of

if TYPE_CHECKING:
    from ..engine.checkpoint import Checkpoints
    from ..engine.loop import Outcome
    from ..engine.progress import Context

IDENTITY = ("spec", "base_spec", "code", "hash")  # the part of `Job.about` that the model file holds too


def train(job: Job) -> StoredObject:
    """Return the stored model of a job's spec; train it first if it is missing, in this process or in several. A user who
    asks for a spec thereby permits the class that it names."""
    name_own(job.spec.own_class)
    kept = job.kept
    is_there = _is_there(job, kept)
    if is_worker() and not is_there:
        _train_and_commit(job, kept)
        return kept
    if is_there:  # no lock needed, so a read-only store will do
        job.say(f"{job.hash} is in the store; nothing to train")
        kept.clear_checkpoints(job.say)
        return kept
    with kept.lock(job.run.wait_seconds, job.say):
        if _is_there(job, kept):
            job.say(f"{job.hash} was trained meanwhile; nothing to train")
            return kept
        if not kept.is_whole() and adopt_former(job, kept, _key_of(job)):
            return kept
        sharers = trainings_on_a_gpu(job.run)
        with granted_gpus(job.run.gpus_asked, job.run.device, job.say, sharers=sharers) as gpus:
            if job.record:
                job.record.update(gpus=gpus, trains=True)  # `trains`: its duration counts for the pace
            if job.run.nodes * job.run.world_size > 1:
                launch_workers(job.run)
            else:
                _train_and_commit(job, kept)
    return kept


def _is_there(job: Job, kept: StoredObject) -> bool:
    """Whether the store holds a model made by the code that is here now. Raise `Refusal` if other code made it, unless the job
    retrains: a model returned under a hash must be what this code would train."""
    if not kept.is_whole():
        return False
    try:
        reason = other_code(kept.described())
    except Refusal as fault:  # somebody else may have written it
        raise Refusal(f"{kept.metadata}: {fault}; base_models.py forget {job.hash}") from None
    if reason and not job.retrain:
        raise Refusal(f"{kept.folder}: {reason}; {ANEW.format(name=job.hash)}")
    return not reason


def _train_and_commit(job: Job, kept: StoredObject) -> None:
    _require_recipe(job)
    key = _key_of(job)  # first, so that a wrong key costs no training
    _begin(job)
    from .gpu_memory import refused_if_too_large

    start = start_of(job)
    base = start if job.spec.kind == "fine-tune" else None
    about = job.about(base and base.spec)
    context, checkpoints = _context(job, kept, about)
    context.say(
        f"training {job.hash} on {context.device}: {context.world.size} process(es) of {job.run.threads} thread(s)"
    )
    with refused_if_too_large(job.run, context.device):
        outcome = _outcome(job, start, context)
    if context.world.is_first:
        _commit(job, kept, outcome, metadata_of(job, outcome, base, context), about, key)
        checkpoints.clear()
        fitted = outcome.fitted
        word = job.spec.course().word if fitted.history else "epoch"
        job.say(f"trained {job.hash}: {len(fitted.history)} {word}s, {fitted.steps} steps, {fitted.seconds:.1f} s")


def _require_recipe(job: Job) -> None:
    """Raise `Refusal` if a spec is of another recipe: the model trained now would not be what its name promises."""
    wanted, recipe = job.spec.recipe, job.task.recipe
    if wanted != recipe:
        raise Refusal(
            f"{job.hash}: its spec is of recipe {wanted} of {job.spec.task}, this version trains recipe {recipe}; plan again, "
            "or train it with the version of then"
        )


def _key_of(job: Job) -> Any:
    """The key that signs the commit; None if nothing is signed."""
    return private_key(job.run.sign_with) if job.run.sign_with else None


def _begin(job: Job) -> None:
    """Load torch and set it up, only for a training: returning a stored model needs no torch."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or CUDA refuses to be deterministic
    job.task.trainer()  # before torch, which it loads in a quicker way
    import torch

    keep_freed_memory()
    torch.set_num_threads(job.run.threads)
    torch.set_deterministic_debug_mode("error")  # not by use_deterministic_algorithms: that loads the compiler, 1 s


def _context(job: Job, kept: StoredObject, about: dict[str, Any]) -> "tuple[Context, Checkpoints]":
    from ..engine.checkpoint import Checkpoints
    from ..engine.device import pick_device, processes_on_a_gpu
    from ..engine.distributed import world_of_environment
    from ..engine.progress import Context
    from ..engine.tracker import Tracker

    run, device = job.run, pick_device(job.run.device)
    on_a_gpu = processes_on_a_gpu(run.device)
    world = world_of_environment(device, run.collective_timeout, on_a_gpu)
    say = job.say if world.is_first else (lambda _: None)
    state = state_of(job)
    checkpoints = Checkpoints(
        kept.checkpoints,
        job.hash,
        run.checkpoint_steps,
        run.checkpoint_seconds,
        say,
        about,
        run.keep_checkpoints,
        run.trust,
    )
    # else training begins at the chosen checkpoint
    checkpoints.is_resumed = not (job.checkpoint and state and state.get("hash") == job.hash)
    curves = Path(TENSORBOARD.format(hash=job.hash)) if run.tensorboard else None
    share = 1 / (on_a_gpu * trainings_on_a_gpu(run))
    name = run.tracker if world.is_first else None
    tracker = None if name is None else Tracker(name, job.hash, json.loads(canonical(job.spec)), say)
    return Context(device, world, checkpoints, state, run, curves, tracker, say, share), checkpoints


def _outcome(job: Job, start: Start | None, context: "Context") -> "Outcome":
    spec, trainer = job.spec, job.task.trainer()
    inputs = Inputs(job.data, job.expect, start)
    if isinstance(spec, BaseSpec):
        job.task.check_data(spec, None, job.data)
        return trainer.train_base(spec, inputs, context)
    job.task.check_data(spec, start and start.spec, job.data)
    make = trainer.train_finetune if spec.trains else trainer.measure_base
    return make(spec, inputs, context)


def _commit(
    job: Job, kept: StoredObject, outcome: "Outcome", metadata: dict[str, Any], about: dict[str, Any], key: Any
) -> None:
    from ..engine.files import to_bytes

    last = outcome.fitted.last
    spec, identity = canonical(job.spec), {name: about[name] for name in IDENTITY if name in about}
    model = outcome.model | identity | {"spec": json.loads(spec), "format": 1}
    state = to_bytes(last | about) if last else None
    kept.commit(to_bytes(model), metadata | {"code": about["code"]}, spec, state, key, anew=job.retrain)
