"""Flat job lists, with one object of fields per training: read them from users, and write plans as such lists."""

from functools import cache
from typing import Any

from .config import Study
from .fields import NAME_RULE, is_name
from .parts import section_of
from .problems import Problems
from .request import Request
from .task import Task
from .validate import read_value

BASE_JOB_MARK = "_base_model_hash"
IGNORED = ("device", "base_model_hash", "base_experiment_prefix")
SECTIONS = ("scope", "data", "base", "finetune")


def job_requests(study: Study, problems: Problems) -> list[Request]:
    """One request per job; what a job lacks comes from the study around it, otherwise from the defaults."""
    around = {"data": [study.data], "base": study.base, "finetune": study.finetune or [{}]}
    for name, grids in around.items():
        if len(grids) > 1:
            problems.add(name, f"{len(grids)} grids", "stand beside jobs; give one section, the job list says the rest")
        for field, values in grids[0].items():
            if len(values) > 1:
                problems.add(
                    f"{name}.{field}", values, "is swept beside jobs; give one value, the job list says the rest"
                )
    fixed = {name: {field: values[0] for field, values in grids[0].items()} for name, grids in around.items()}
    read = [_job_request(study, fixed, key, job, problems) for key, job in study.jobs or ()]
    return [request for request in read if request]


def ignored_fields(jobs: list[tuple[str, dict]]) -> list[str]:
    """Fields of the job list that change nothing here, sorted."""
    return sorted({name for _, job in jobs for name in job if _is_ignored(name) and name != BASE_JOB_MARK})


def flat_job(request: Request, task: Task, name: str) -> dict[str, Any]:
    """A request as a flat job that reads back to the same request; `name` is the readable part of its prefix."""
    job = {"prefix": name} | {k: v for k, v in request.unit.values.items() if k in _routes(task)}
    for field, (section, own) in _routes(task).items():
        if section == "unit" or getattr(request, section) is None:
            continue
        value = getattr(getattr(request, section), own)
        if value is not None and (
            section != "finetune" or value != task.finetune_section.model_fields[own].default or own == "mode"
        ):
            job[field] = value
    return job


def fields_of(task: Task) -> dict[str, tuple[str, str]]:
    """The flat names that a job may use and the section and field that each sets."""
    return dict(_routes(task))


def _job_request(
    study: Study, fixed: dict[str, dict], key: str, job: dict[str, Any], problems: Problems
) -> Request | None:
    """The request of one job; None if its scope, data or unit was at fault."""
    task = study.task
    given, is_broken = _given(task, key, job, problems)
    prefix = _prefix(study, key, job, problems)
    if is_broken:
        return None
    before = len(problems.lines)
    data = task.complete_data(task.data_section(**(fixed["data"] | given["data"])), f"{key}.data", problems)
    scope = task.complete_scope(study.scope.model_copy(update=given["scope"]), data, f"{key}.", problems)
    if len(problems.lines) > before:
        return None
    unit = task.unit_of_job(scope, given["unit"], f"{key}.{task.unit_word}", problems)
    if unit is None:
        return None
    base = task.base_section(**(fixed["base"] | given["base"]))
    is_base = BASE_JOB_MARK in job
    finetune = None if is_base else task.finetune_section(**(fixed["finetune"] | given["finetune"]))
    return Request(key, scope, data, base, finetune, unit, prefix)


def _given(task: Task, key: str, job: dict[str, Any], problems: Problems) -> tuple[dict[str, dict[str, Any]], bool]:
    """The fields of a job by section, and whether a field of its scope or data was at fault."""
    given: dict[str, dict[str, Any]] = {name: {} for name in (*SECTIONS, "unit")}
    is_broken = False
    for name, value in job.items():
        if _is_ignored(name) or name == "prefix":
            continue
        if name not in _routes(task):
            problems.unknown_key(f"{key}.{name}", (*_routes(task), "prefix"))
            continue
        section, field = _routes(task)[name]
        if section == "unit":
            given[section][field] = value
        elif value is not None:  # null: the value of the study around it, otherwise the default
            value, fits = read_value(section_of(task, section), field, value, f"{key}.{name}", problems)
            given[section] |= {field: value} if fits else {}
            is_broken = is_broken or (not fits and section in ("scope", "data"))
    return given, is_broken


def _prefix(study: Study, key: str, job: dict[str, Any], problems: Problems) -> str | None:
    """A job's own name, else the study's template."""
    own = job.get("prefix")
    if own is None or is_name(own):
        return own or study.prefix
    problems.add(f"{key}.prefix", own, f"needs {NAME_RULE}")
    return None


def _is_ignored(name: str) -> bool:
    return str(name).startswith("_") or name in IGNORED


@cache
def _routes(task: Task) -> dict[str, tuple[str, str]]:
    """The section and field of each flat name. Fields of base and the fine-tune's own keep their names, the rest begin
    with their section: data_stride, finetune_lr."""
    renamed = {target: name for name, target in task.flat.items()}
    routes = {name: target for name, target in task.flat.items() if target[0] in ("unit", "scope")}
    for section in ("data", "base", "finetune"):
        for field in section_of(task, section).model_fields:
            plain = section == "base" or (section == "finetune" and field in task.own_finetune_fields)
            name = renamed.get((section, field), field if plain else f"{section}_{field}")
            routes[name] = (section, field)
    return routes
