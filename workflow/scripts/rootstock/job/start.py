"""What a training starts from: its base model, verified, or the state of a training that it continues."""

import json
from pathlib import Path
from typing import Any

from ..store.objects import opened_verified, require_hash, stored
from ..store.signatures import require_signature
from ..study import paths
from ..study.identity import digest
from ..study.parts import Start
from ..study.problems import Refusal
from ..study.spec import BaseSpec
from ..tasks.code import other_code, require_code
from ..tasks.reading import read_spec, spec_of
from .job import Job
from .node_cache import on_this_node


def start_of(job: Job) -> Start | None:
    """The base model, or the stage before, that a spec names; None if it names none."""
    name = job.spec.starts_from
    return None if name is None else load_start(job, name)


def load_start(job: Job, name: str) -> Start:
    """Load a published base model. Raise `Refusal` unless it is undamaged, it and its spec have the hash asked for, its code
    is the one here now, and, if `run.trust` gives a key, the owner of that key signed it."""
    from ..engine.files import load

    require_hash(name)
    published = Path(job.start_model or paths.base_model(name))
    metadata = paths.base_metadata(published)
    with opened_verified(on_this_node(published, name, metadata, job.say), metadata, name) as files:
        if job.run.trust:
            require_signature(files.content, job.run.trust, name)
        content = load(files.model)
    spec = _spec_in(job, content) if isinstance(content, dict) and content.get("hash") == name else None
    if spec is None or digest(spec) != name:
        raise Refusal(f"{published}: is not base model {name}; delete it and run again")
    require_code(content, published)
    return Start(name, spec, content)


def state_of(job: Job) -> dict[str, Any] | None:
    """The checkpoint that `job` resumes from, or the final state of the shorter training that it continues. None if there is
    no such state or other code made it; the log says which."""
    from ..engine.checkpoint import load_state, read_state

    if job.checkpoint:
        state = read_state(Path(job.checkpoint), job.run.trust)
        _require_same(job, state, f"--start_from: {job.checkpoint}")
        require_code(state, job.checkpoint)
        return state
    if not job.continues:
        return None
    shorter = stored(job.store, job.continues)
    metadata = shorter.read() if shorter.is_whole() else None
    if metadata and job.run.trust:
        require_signature(metadata, job.run.trust, job.continues)
    state = load_state(shorter, metadata) if metadata else None
    if metadata is None or state is None:
        job.say(f"{job.continues} left no state to resume from; training from the start")
        return None
    _require_same(job, state, f"--continues: {job.continues}")
    if reason := other_code(state):
        job.say(f"{job.continues} was {reason}; training from the start")
        return None
    return state


def _require_same(job: Job, state: dict[str, Any], flag: str) -> None:
    """Raise `Refusal` unless the training that left `state` is this one, or differs from it only in its length."""
    other = spec_of(state.get("spec") or {})
    if digest(other) != job.hash and not job.task.may_continue(job.spec, other):
        fix = "only how long it lasts may differ, where the learning rate does not depend on that"
        raise Refusal(f"{flag} is of {digest(other)}, another training than {job.hash}; {fix}")


def _spec_in(job: Job, content: dict[str, Any]) -> BaseSpec:
    return read_spec(json.dumps(content.get("spec") or {}), "base", job.spec.task)
