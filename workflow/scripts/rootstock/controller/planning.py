"""The plan of a workflow, from the files and overrides that Snakemake is given. Light: no torch."""

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
    """Let Python's collector check new objects after every ten thousand, not 700, and old ones seldom. A graph of ten
    thousand jobs lives as long as its process; the collector would spend a fifth of the planning time on it in vain."""
    gc.set_threshold(10_000, 50, 1000)


def put_this_python_first() -> None:
    """Let `python` in a job's shell command be the one that runs Snakemake, even if its environment is not
    activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def planned(workflow: Any, config: dict[str, Any]) -> Plan:
    """The plan of Snakemake's `workflow`. A module's study is the `config` that its user gives it. If that is the
    user's whole config, its files are read; else the values are Snakemake's, with the module's name if they have
    none."""
    settings, files = workflow.config_settings, list(workflow.configfiles)
    if workflow.modifier.is_main_snakefile():
        return plan_of_workflow(files, settings.config)
    if config is workflow.modifier_stack[0].globals["config"]:
        on_top = [file for file in files if file in settings.configfiles]
        return plan_of_workflow([*(file for file in files if file not in on_top), *on_top], settings.config)
    return plan_of_module(workflow.modifier.namespace, config)


@told_as_lines()
def plan_of_workflow(configfiles: Sequence[str], overrides: dict[str, Any]) -> Plan:
    """The plan of `--configfile F` or of `--config jobs=F`, else of the default study; `--config` values override it.

    A user's mistake ends the run here with one line per fault, before anything is written.
    """
    return _checked(plan_content(content_of_workflow(configfiles, overrides)))


@told_as_lines()
def plan_of_module(name: str, config: dict[str, Any]) -> Plan:
    """The plan of a study that a user's workflow passes to a module as `config`."""
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
    """The study as one mapping: the files in order, each overriding the ones before, and then `overrides`.

    We read the files ourselves instead of taking Snakemake's mapping: our reader takes 1e-3 as a number, knows line
    numbers and finds keys given twice.
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
    """Plan a study given as a mapping. The plan keeps the mapping as JSON, so that a script can make the same plan
    again. `retrain` is left out there: it belongs to one run and does not make another study."""
    plan = make_plan(*parse_study(content, TASKS))
    content = {key: value for key, value in content.items() if key != "retrain"}
    plan.content = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return plan


def begin_run(plan: Plan, say: Callable[[str], None]) -> None:
    """Write the study where the jobs of a run read it (it may be too long for a command line), and record in the store
    what it reaches. Raise `Refusal` if a file cannot be written. A read-only store gets no record, since nobody can
    free anything in it either. A store whose records lie behind a link gets none either: the run goes on, and `gc`
    frees nothing there."""
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
    """For `train_bases=false`: raise `StudyError` unless every base model is published here or in the store."""
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
    """One line on what a run is about, and the notes for its user."""
    count = analysis(plan)
    saved = count["base_trainings_without_sharing"] - count["base_models"]
    experiments, bases = count["experiments"], count["base_models"]
    first = f"{plan.study.name}: {experiments} experiment{'s' * (experiments != 1)} on {bases} base model{'s' * (bases != 1)}"
    return [
        f"{first} ({saved} base training{'s' * (saved != 1)} saved)" if saved > 0 else first,
        *(f"note: {note}" for note in plan.notes),
    ]


def to_do(jobs: Iterable[Any], rules: Iterable[Any]) -> str:
    """One line with the number of jobs to run per rule."""
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
    alone = [name for base in wanted for name in plan.stages_of(base)]  # base trainings without sharing
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
