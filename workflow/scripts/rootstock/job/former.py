"""Adopt a training that the store holds under a former name under its name of today. Loads torch only if there is one."""

import json
from typing import Any

from ..store.former import found_under_former_name
from ..store.objects import StoredObject
from ..store.signatures import SIGNATURE, require_signature
from ..study.identity import canonical, digest
from ..study.problems import Refusal
from ..tasks.code import other_code
from ..tasks.reading import spec_of
from .job import Job


def adopt_former(job: Job, kept: StoredObject, key: Any) -> bool:
    """Commit the training under a former name, if there is one, under this name too; return whether it was done.

    Its weights are those that this training would give: the rules that unite the two names change no weight.
    """
    former = found_under_former_name(job.store, job.hash, _name_today)
    if former is None:
        return False
    from ..engine.files import load, to_bytes

    spec = canonical(job.spec)
    with former.opened() as files:
        if reason := _why_not(job, files.content, former.hash) or other_code(files.content):
            job.say(f"not taken under its former name: {reason}")
            return False
        with former.opened_state(files.content) as state_file:
            named = {"spec": json.loads(spec), "hash": job.hash}
            model = load(files.model) | named
            state = to_bytes(load(state_file) | named) if state_file else None
        unsigned = {name: value for name, value in files.content.items() if name != SIGNATURE}
    news = {"former_name": former.hash}
    if files.content.get("base_hash"):
        news["base_hash"] = str(job.spec.starts_from)
    kept.commit(to_bytes(model), unsigned | news, spec, state, key)
    job.say(f"{job.hash} is in the store under its former name {former.hash}; nothing to train")
    return True


def _why_not(job: Job, metadata: dict[str, Any], name: str) -> str | None:
    """Why we may not sign a model of a former name: a stranger may have left it in the store. None if we may."""
    if not job.run.trust:
        unknown = f"{name}: run.sign_with without run.trust does not say whose work may be signed"
        return unknown if job.run.sign_with else None
    try:
        require_signature(metadata, job.run.trust, name)
    except Refusal as reason:
        return str(reason)
    return None


def _name_today(spec: dict[str, Any]) -> str | None:
    try:
        return digest(spec_of(spec))
    except Exception:  # anybody may have written the spec: a faulty one has no name today
        return None
