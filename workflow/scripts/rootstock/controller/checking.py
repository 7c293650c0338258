"""What jobs would refuse, told before the first one: what costs nothing at the start of each run, the rest when it is asked for."""

import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.curves import require_tensorboard
from ..engine.tracker import require_tracker
from ..job.gpus import require_gpus
from ..slurm.executor import is_slurm_here
from ..store.objects import stored
from ..store.signatures import private_key
from ..study import paths
from ..study.own import name_own
from ..study.parts import Checked
from ..study.plan import Plan
from ..study.problems import Refusal, StudyError, refusals
from ..study.run import Run

Check = Callable[[], Any]


def require_what_runs_need(plan: Plan, is_local: bool, is_this_python: bool) -> None:
    """Raise as `StudyError` all that can be known of the run settings without torch. `is_local`: jobs run on this machine;
    `is_this_python`: with the packages of this process. What the store hands back needs nothing."""
    if all(is_whole(plan.study.store, name) for name in plan.reaches):
        return
    checks = [*_of_packages(plan.study.run)] if is_this_python else []
    checks += [*_of_gpus(plan.study.run)] if is_local else []
    if faults := refusals(checks):
        raise StudyError(faults)


def check_all(plan: Plan) -> Checked:
    """All that can be known before the first job; torch and what the task needs are loaded, no training is begun."""
    run, task = plan.study.run, plan.study.task
    lacking = refusals(partial(_loaded, part) for part in (task.trainer, task.checker))
    of_machine = refusals([*_of_gpus(run), partial(_pick_device, run.device)])
    missing = [folder for folder in map(paths.prepared, plan.artefacts) if not Path(folder, "manifest.json").exists()]
    table = [f"{folder}: not prepared yet; checked by the job that prepares it" for folder in missing]
    if is_slurm_here():  # and jobs may run elsewhere
        table += [f"on this machine, which Slurm's jobs may not use: {fault}" for fault in of_machine]
        of_machine = []
    for training in (*plan.bases.values(), *plan.experiments.values()):
        name_own(training.spec.own_class)
    checker = None if lacking else task.checker()
    found = checker.check(plan, missing) if checker else Checked([], [])
    return Checked([*lacking, *refusals(_of_packages(run)), *of_machine, *found.faults], [*found.table, *table])


def in_store(plan: Plan, other_code: Collection[str] = ()) -> str:
    """How much of a plan the store hands back; its objects are looked for, not verified. Models of `other_code` it hands back only
    where they are not trained anew."""
    anew = plan.reaches.intersection(other_code) if plan.study.retrain else set()
    there = sum(is_whole(plan.study.store, name) for name in plan.reaches - anew)
    told = f"; {len(anew)} made by other code are trained anew" if anew else ""
    return f"{there} of {len(plan.reaches)} trainings already in the store{told}"


def is_whole(store: str, name: str) -> bool:
    """Whether a store holds a training; not verified."""
    try:
        return stored(store, name).is_whole()
    except (Refusal, OSError):
        return False  # the job that needs it says why


def _of_packages(run: Run) -> Iterator[Check]:
    if run.tensorboard:
        yield require_tensorboard
    yield partial(require_tracker, run.tracker)
    if run.sign_with:
        yield partial(_loaded, partial(private_key, run.sign_with))


def _of_gpus(run: Run) -> Iterator[Check]:
    """On Slurm, and in a job of it, Slurm gives them."""
    if run.device in ("auto", "cuda") and run.gpus_asked and "SLURM_JOB_ID" not in os.environ:
        yield partial(require_gpus, run.gpus_asked)


def _pick_device(wanted: str) -> None:
    from ..engine.device import pick_device

    pick_device(wanted)


def _loaded(part: Check) -> None:
    """A module, loaded; `Refusal` names the package that it lacks."""
    try:
        part()
    except ModuleNotFoundError as error:
        raise Refusal(
            f"{error.name}: not installed; .venv/bin/pip install -r the requirements-….txt that names it"
        ) from None
