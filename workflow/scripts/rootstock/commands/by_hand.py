"""Training without a study: command-line flags become a study of one job and are planned like any other."""

import argparse
import json
import re
from pathlib import Path

from ..job.prepare import prepare
from ..store.objects import stored, verified
from ..study import paths
from ..study.config import parse_study
from ..study.fields import readable
from ..study.identity import HASH_LENGTH, is_hash, short_digest
from ..study.jobs import BASE_JOB_MARK
from ..study.own import name_own
from ..study.plan import Experiment, Plan, Planned
from ..study.planner import make_plan
from ..study.problems import Refusal, StudyError
from ..study.request import Artefact
from ..study.spec import BaseSpec, FinetuneSpec
from ..study.task import Task
from ..tasks.registry import TASKS


def base_of_flags(job: dict, task: Task) -> tuple[BaseSpec, str, dict]:
    """The base spec that the fields of `job` ask for, the folder of its data, and what is expected of the data. Prepare
    the data if necessary."""
    (training,) = _plan(job | {BASE_JOB_MARK: ""}, task).bases.values()
    return training.spec, _data(training, task), json.loads(training.expect)


def finetune_of_flags(
    job: dict, task: Task, args: argparse.Namespace
) -> tuple[FinetuneSpec, str, str | None, str, dict]:
    """The fine-tune of `job`: spec, data folder, base model's path, folder to publish in, expectations of the data.

    Base settings without a flag are taken from the model `--base_model_hash`.
    """
    if getattr(args, "prefix", None):
        job = job | {"prefix": args.prefix}
    wanted = args.base_model_hash
    given = task.flat_job_of(_base_spec(wanted, task, args.store)) if wanted else {}
    plan = _plan(given | job, task)
    (experiment,) = plan.experiments.values()
    data = _data(experiment, task)
    spec, folder = experiment.spec, experiment.path
    if spec.base and wanted and wanted != spec.base:
        spec, folder = _on_other_base(experiment, plan, wanted, task, args.store)
    if experiment.base and (named := plan.bases[experiment.base].spec.own_class) in job.values():
        name_own(named)
    base = None if spec.base is None else _base_model(spec.base, args.store)
    return spec, data, base, args.output or folder, json.loads(experiment.expect)


def _plan(job: dict, task: Task) -> Plan:
    try:
        return make_plan(*parse_study({"study": "by_hand", "task": task.name, "jobs": [job]}, TASKS))
    except StudyError as error:
        raise StudyError(
            re.sub(r"^jobs\[0\][. ]?(?:(?:base|finetune)\.)?", "--", line) for line in error.lines
        ) from None


def _data(training: Planned, task: Task) -> str:
    if training.artefact:
        _prepare(training.artefact, task)
    return training.data


def _prepare(artefact: Artefact, task: Task) -> None:
    for needed in artefact.needs:
        _prepare(needed, task)
    prepare(task, artefact.spec, paths.prepared(artefact.name))


def _base_model(name: str, store: str) -> str:
    """The path of a base model. Publish it here from the store if needed. Raise `Refusal` if there is none."""
    if not is_hash(name):
        raise Refusal(f"--base_model_hash: {name!r} is not a hash; it has {HASH_LENGTH} hex digits")
    published, kept = Path(paths.base_model(name)), stored(store, name)
    if not published.exists():
        if not kept.is_whole():
            raise Refusal(f"--base_model_hash: {name} is not trained here; run train_base.py with its settings first")
        kept.publish_base(published, paths.base_metadata(published))
    return str(published)


def _base_spec(name: str, task: Task, store: str) -> BaseSpec:
    """The spec of a trained base model, from its verified metadata."""
    model = Path(_base_model(name, store))
    metadata = verified(model, paths.base_metadata(model), name)
    if metadata["kind"] != "base" or metadata["task"] != task.name:
        raise Refusal(f"--base_model_hash: {name} is not a base model of task {task.name}; give the hash of a base")
    return task.base_spec_type.model_validate(metadata["spec"])


def _on_other_base(experiment: Experiment, plan: Plan, name: str, task: Task, store: str) -> tuple[FinetuneSpec, str]:
    """The same fine-tune on the base model `name`, and its folder. Raise `Refusal` if that base does not fit."""
    assert experiment.base is not None  # the caller has checked that there is a base to replace
    base = _base_spec(name, task, store)
    fault = task.misfit(base, plan.bases[experiment.base].spec, experiment.spec)
    if fault:
        raise Refusal(f"--base_model_hash: {name} {fault}")
    spec = experiment.spec.model_copy(update={"base": name})
    readable_part = readable(experiment.prefix.rpartition("_")[0])
    return spec, paths.experiment(f"{readable_part}_{short_digest([experiment.prefix, name])}", experiment.unit)
