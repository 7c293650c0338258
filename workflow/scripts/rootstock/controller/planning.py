"""The plan as the workflow asks for it: from the files and overrides that Snakemake was given. Light: no torch."""

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..store.files import write_atomically
from ..store.objects import stored
from ..store.users import record_user
from ..study import paths
from ..study.config import load_content, merge, parse_study, study_name
from ..study.plan import Plan
from ..study.planner import make_plan
from ..study.problems import Refusal, StudyError
from ..study.told import told_as_lines
from ..tasks.registry import TASKS

DEFAULT_STUDY = "config/config.yaml"


def collect_garbage_rarely() -> None:
    """A graph of ten thousand jobs lives as long as its process. Python's collector goes over all of it again and again, a fifth of
    the time of a plan, and finds nothing; now it looks at what is new after ten thousand objects, not after 700, and seldom at the rest."""
    gc.set_threshold(10_000, 50, 1000)


def put_this_python_first() -> None:
    """Let the `python` of a job's shell command be the one that runs Snakemake, activated or not."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def planned(workflow: Any, config: dict[str, Any]) -> Plan:
    """The plan of Snakemake's `workflow`. A module is asked by the `config` that its user gives it: where that is all of the user's own, by
    its files, else as Snakemake read it, and named after the module where it has no name."""
    settings, files = workflow.config_settings, list(workflow.configfiles)
    if workflow.modifier.is_main_snakefile():
        return plan_of_workflow(files, settings.config)
    if config is workflow.modifier_stack[0].globals["config"]:
        on_top = [file for file in files if file in settings.configfiles]
        return plan_of_workflow([*(file for file in files if file not in on_top), *on_top], settings.config)
    return plan_of_module(workflow.modifier.namespace, config)


@told_as_lines()
def plan_of_workflow(configfiles: Sequence[str], overrides: dict[str, Any]) -> Plan:
    """The plan of `--configfile F` or of `--config jobs=F`, else of the default study; `--config` values go on top.

    A user's mistake ends the run here with one line a fault, before anything is written.
    """
    return _checked(plan_content(content_of_workflow(configfiles, overrides)))


@told_as_lines()
def plan_of_module(name: str, config: dict[str, Any]) -> Plan:
    """The plan of a study that a user's workflow gives a module as its `config`."""
    try:
        content = json.loads(json.dumps(config))
    except (TypeError, ValueError, RecursionError) as error:
        raise StudyError([f"module {name}: config: {error}; write text, numbers or lists"]) from None
    if not isinstance(content, dict):
        raise StudyError([f"module {name}: config: needs keys and values"])
    return _checked(plan_content({"study": study_name(name)} | content))


def _checked(plan: Plan) -> Plan:
    if not plan.study.train_bases:
        require_bases(plan)
    return plan


def content_of_workflow(configfiles: Sequence[str], overrides: dict[str, Any] | None) -> dict[str, Any]:
    """The study as one mapping: the files in order, later ones and then `overrides` on top.

    Files are read by our own reader, not taken from Snakemake: it reads 1e-3 as a number, and knows lines and
    keys given twice.
    """
    config = overrides or {}
    if configfiles:
        content = load_content(configfiles[0], TASKS)
        for file in configfiles[1:]:
            content = merge(content, load_content(file, TASKS, named=False))
        return merge(content, config)
    if isinstance(config.get("jobs"), str):
        return load_content(config["jobs"], TASKS, config)
    return load_content(DEFAULT_STUDY, TASKS, config)


def plan_content(content: dict[str, Any]) -> Plan:
    """Plan a study given as a mapping; the plan remembers it as JSON, so that a script can plan the same again. Whether something is
    trained anew is of one run, and no other study."""
    plan = make_plan(*parse_study(content, TASKS))
    content = {key: value for key, value in content.items() if key != "retrain"}
    plan.content = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return plan


def begin_run(plan: Plan, say: Callable[[str], None]) -> None:
    """Write the study where the jobs of a run read it (it may be longer than a command line can be), and note in the
    store what it reaches. A store that is only readable keeps no record: nobody can free anything in it either. Nor does one in which
    records lie behind a link; it stops no run, and no `gc` frees anything there."""
    try:
        write_atomically(Path(plan.study_file), plan.content.encode())
        store = Path(plan.study.store)
        if not store.exists() or os.access(store, os.W_OK):
            record_user(store, Path.cwd(), plan.study.name, plan.reaches)
    except (Refusal, NotADirectoryError) as fault:
        say(f"note: what this study reaches is not recorded in the store ({fault})")
    except OSError as error:
        raise Refusal(
            f"{error.filename}: {error.strerror}; the study cannot be noted there, so it is not begun"
        ) from None


def require_bases(plan: Plan) -> None:
    """For `train_bases=false`: every base model must be published here or lie in the store."""
    missing = [
        name
        for name in plan.bases
        if not Path(paths.base_model(name)).exists() and not stored(plan.study.store, name).is_whole()
    ]
    if missing:
        raise StudyError(
            plan.study.words(
                f"train_bases: false, but base model {name} is not there; train it first, or leave train_bases out"
            )
            for name in missing
        )


@told_as_lines()
def headline(plan: Plan) -> list[str]:
    """What a run is about, in a line, and what its user should know."""
    count = analysis(plan)
    saved = count["base_trainings_without_sharing"] - count["base_models"]
    experiments, bases = count["experiments"], count["base_models"]
    first = f"{plan.study.name}: {experiments} experiment{'s' * (experiments != 1)} on {bases} base model{'s' * (bases != 1)}"
    return [
        f"{first} ({saved} base training{'s' * (saved != 1)} saved)" if saved > 0 else first,
        *(f"note: {note}" for note in plan.notes),
    ]


def to_do(jobs: Iterable[Any], rules: Iterable[Any]) -> str:
    """How many jobs of each of Snakemake's rules it is going to run."""
    numbers = Counter(job.rule.name for job in jobs if job.output)
    told = [f"{numbers[rule.name]} {rule.name}" for rule in rules if numbers[rule.name]]
    return f"to do: {', '.join(told) or 'nothing'}"


def analysis(plan: Plan) -> dict[str, Any]:
    """Counts of a plan, and which experiments share which base model."""
    cost = plan.study.task.cost
    sharing = {name: {"experiments": 0, "units": []} for name in plan.bases}
    for experiment in plan.experiments.values():
        if experiment.base:
            sharing[experiment.base]["experiments"] += 1
            if experiment.unit not in sharing[experiment.base]["units"]:
                sharing[experiment.base]["units"].append(experiment.unit)
    costs = {None: 0.0} | {name: cost(training.spec) for name, training in plan.bases.items()}
    wanted = [experiment.base for experiment in plan.experiments.values() if experiment.base] + plan.lone_bases
    alone = [name for base in wanted for name in plan.stages_of(base)]  # trained without sharing
    shared = sum(costs[name] - costs[training.continues] for name, training in plan.bases.items())
    return {
        "study": plan.study.name,
        "task": plan.study.task.name,
        "experiments": len(plan.experiments),
        "base_models": len(plan.bases),
        "base_trainings_without_sharing": len(alone),
        "fine_tunes": len(plan.fine_tunes),
        f"{plan.study.task.unit_word}s": len({experiment.unit for experiment in plan.experiments.values()}),
        "base_compute_saved_pct": round(100 * (1 - shared / sum(costs[name] for name in alone)), 2) if alone else 0.0,
        "notes": plan.notes,
        "sharing": sharing,
    }
