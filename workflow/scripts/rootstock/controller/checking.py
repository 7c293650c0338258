"""Find what jobs would refuse before the first one starts: cheap checks in each run, all others on request."""

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
    """Raise `StudyError` with all faults of the run settings that can be found without torch. Check nothing if the
    store already holds every training. `is_local`: jobs run on this machine; `is_this_python`: with this process's
    packages."""
    if all(is_whole(plan.study.store, name) for name in plan.reaches):
        return
    checks = [*_of_packages(plan.study.run)] if is_this_python else []
    checks += [*_of_gpus(plan.study.run)] if is_local else []
    if faults := refusals(checks):
        raise StudyError(faults)


def check_all(plan: Plan) -> Checked:
    """Check all that can be checked before the first job. Load torch and the task's needs, but start no training."""
    run, task = plan.study.run, plan.study.task
    lacking = refusals(partial(_loaded, part) for part in (task.trainer, task.checker))
    of_machine = refusals([*_of_gpus(run), partial(_pick_device, run.device)])
    missing = [folder for folder in map(paths.prepared, plan.artefacts) if not Path(folder, "manifest.json").exists()]
    table = [f"{folder}: not prepared yet; checked by the job that prepares it" for folder in missing]
    if is_slurm_here():  # jobs may run on other machines
        table += [f"on this machine, which Slurm's jobs may not use: {fault}" for fault in of_machine]
        of_machine = []
    for training in (*plan.bases.values(), *plan.experiments.values()):
        name_own(training.spec.own_class)
    checker = None if lacking else task.checker()
    found = checker.check(plan, missing) if checker else Checked([], [])
    return Checked([*lacking, *refusals(_of_packages(run)), *of_machine, *found.faults], [*found.table, *table])


def in_store(plan: Plan, other_code: Collection[str] = ()) -> str:
    """How many trainings of a plan the store already holds; models are looked up, not verified. Models of `other_code`
    do not count if the study retrains them."""
    anew = plan.reaches.intersection(other_code) if plan.study.retrain else set()
    there = sum(is_whole(plan.study.store, name) for name in plan.reaches - anew)
    told = f"; {len(anew)} made by other code are trained anew" if anew else ""
    return f"{there} of {len(plan.reaches)} trainings already in the store{told}"


def is_whole(store: str, name: str) -> bool:
    """Whether a store holds a training; its model is not verified."""
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
    """Check for the GPUs that are asked for, except in a Slurm job, to which Slurm assigns GPUs."""
    if run.device in ("auto", "cuda") and run.gpus_asked and "SLURM_JOB_ID" not in os.environ:
        yield partial(require_gpus, run.gpus_asked)


def _pick_device(wanted: str) -> None:
    from ..engine.device import pick_device

    pick_device(wanted)


def _loaded(part: Check) -> None:
    """Load a module. Raise `Refusal` with the name of the package that it lacks."""
    try:
        part()
    except ModuleNotFoundError as error:
        raise Refusal(
            f"{error.name}: not installed; .venv/bin/pip install -r the requirements-….txt that names it"
        ) from None
