"""A study as its user wrote it: read, checked key by key, every fault collected."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import paths
from .fields import NAME, PATH_RULE, Section, at_home, is_path, is_text
from .general import GENERAL
from .problems import Problems, StudyError
from .reading import read_file
from .run import Run
from .task import Task
from .tasks import Tasks
from .validate import Swept, read_grids, read_section, read_swept


@dataclass(frozen=True)
class Study:
    """One study: a task, its data, what is fixed and what is swept."""

    name: str
    task: Task
    scope: Section
    data: Swept
    base: list[Swept]
    finetune: list[Swept] | None
    jobs: list[tuple[str, dict]] | None = None
    prefix: str | None = None
    store: str = paths.STORE
    train_bases: bool = True
    retrain: bool = False
    run: Run = field(default_factory=Run)

    @property
    def words(self) -> Callable[[str], str]:
        """Puts a fault into the terms of the file that the study was made from, if its scope has such a function."""
        return getattr(self.scope, "words", str)

    @property
    def task_name(self) -> str:
        return self.task.name


def load_content(
    path: str | Path, tasks: Tasks, overrides: dict[str, Any] | None = None, named: bool = True
) -> dict[str, Any]:
    """Return a study file as one mapping, with `overrides` on top; a bare job list becomes a study.

    If `named`, a study without a name is named after its file; False is for a file that only overrides another study.
    """
    content = read_file(path)
    if isinstance(content, list):
        content = {"study": study_name(path), "jobs": [str(path)]}
        overrides = {key: value for key, value in (overrides or {}).items() if key != "jobs"}
    if not isinstance(content, dict):
        raise StudyError([f"{path}: is not a study; it needs keys and values, such as study: my_study"])
    if "task" not in content:
        content = _adopted(content, study_name(path), tasks)
    return merge(({"study": study_name(path)} if named else {}) | content, overrides or {})


def _adopted(content: dict[str, Any], name: str, tasks: Tasks) -> dict[str, Any]:
    """The study that a file without `task` means. If all keys belong to the first task, it is the content unchanged;
    otherwise a task may recognise a format of its own users."""
    if set(content) <= {*GENERAL, *tasks.find(tasks.names[0]).scope_section.model_fields}:
        return content
    forms = (tasks.find(task).adopted(content, name) for task in tasks.names)
    return next((study for study in forms if study is not None), content)


def study_name(path: str | Path) -> str:
    """A name from a file name: what is not safe in a folder name becomes a dash."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", Path(path).stem).lstrip("._-") or "study"


def merge(study: dict, overrides: dict) -> dict:
    """`overrides` over `study`, section by section."""
    merged = dict(study)
    for key, value in overrides.items():
        deeper = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if deeper else value
    return merged


def parse_study(content: dict[str, Any], tasks: Tasks) -> tuple[Study, Problems]:
    """Validate every key. Raise the returned problems, or let the grid add to them first, before using the study."""
    problems = Problems()
    task = tasks.find(content.get("task", tasks.names[0]))
    scope_keys = task.scope_section.model_fields
    for key in content:
        if key not in GENERAL and key not in scope_keys:
            problems.unknown_key(str(key), (*GENERAL, *scope_keys))
    scope = read_section(task.scope_section, {k: v for k, v in content.items() if k in scope_keys}, "", problems)
    _text(content, "description", problems)
    study = Study(
        name=_name(content.get("study", "study"), problems),
        task=task,
        scope=scope,
        data=read_swept(task.data_section, content.get("data"), "data", problems),
        base=read_grids(task.base_section, content.get("base"), "base", problems),
        finetune=_finetune(task, content, problems),
        jobs=_jobs(content.get("jobs"), problems),
        prefix=_text(content, "prefix", problems),
        store=_store(content, problems),
        train_bases=_flag(content, "train_bases", True, problems),
        retrain=_flag(content, "retrain", False, problems),
        run=read_section(Run, _mapping(content.get("run"), "run", problems), "run", problems),
    )
    problems.words = study.words
    _check_run(study, problems)
    return study, problems


def _check_run(study: Study, problems: Problems) -> None:
    run = study.run
    for name in ("activation_checkpointing", "shard"):
        if getattr(run, name) and not study.task.has_blocks:
            problems.add(
                f"run.{name}", True, f"needs a network of blocks, which task {study.task.name} does not have; remove it"
            )
    if run.shard and run.compile is True:
        problems.add("run.shard", True, "does not work with compile: true; remove one of them")


def _finetune(task: Task, content: dict, problems: Problems) -> list[Swept] | None:
    if "finetune" not in content and "jobs" not in content:
        return None
    return read_grids(task.finetune_section, content.get("finetune"), "finetune", problems)


def _jobs(jobs: Any, problems: Problems) -> list[tuple[str, dict]] | None:
    """Flat jobs from one file, several files or the study itself, each with the key that names it in messages."""
    if jobs is None:
        return None
    found: list[tuple[str, dict]] = []
    for source in jobs if isinstance(jobs, list) else [jobs]:
        if isinstance(source, dict):
            found.append((f"jobs[{len(found)}]", source))
        elif isinstance(source, str):
            found += _jobs_of_file(source, problems)
        else:
            problems.add("jobs", source, "needs the path of a .json list, or a list of jobs")
    if not found and not problems.lines:
        problems.add("jobs", jobs, "holds no job; give at least one")
    return found


def _jobs_of_file(path: str, problems: Problems) -> list[tuple[str, dict]]:
    try:
        jobs = read_file(path)
    except StudyError as error:
        problems.lines += [f"jobs: {line}" for line in error.lines]
        return []
    if not isinstance(jobs, list):
        problems.add("jobs", path, "is not a list of jobs; a job list is [{…}, {…}]")
        return []
    name = Path(path).name
    for index, job in enumerate(jobs):
        if not isinstance(job, dict):
            problems.add(f"{name}[{index}]", job, "is not a job; a job is an object of fields")
    return [(f"{name}[{index}]", job) for index, job in enumerate(jobs) if isinstance(job, dict)]


def _name(value: Any, problems: Problems) -> str:
    if isinstance(value, str) and NAME.fullmatch(value) and ".." not in value:
        return value
    problems.add("study", value, "needs a name of letters, digits, '.', '_' and '-' that starts with a letter or digit")
    return "study"


def _mapping(value: Any, key: str, problems: Problems) -> dict:
    if value is None or isinstance(value, dict):
        return value or {}
    problems.add(key, value, "needs keys and values")
    return {}


def _text(content: dict, key: str, problems: Problems) -> str | None:
    value = content.get(key)
    if value is not None and not (isinstance(value, str) and value.strip() and "\n" not in value and is_text(value)):
        problems.add(key, value, "needs one line of text")
        return None
    return value


def _store(content: dict, problems: Problems) -> str:
    store = at_home(_text(content, "store", problems) or paths.STORE)
    if not is_path(store) or store.startswith("~"):
        problems.add("store", store, f"needs {PATH_RULE}")
    if Path(store) == Path():  # the store's folders would lie among the project's own
        problems.add("store", store, f"is the project itself; give a folder for trained models, such as {paths.STORE}")
    return store


def _flag(content: dict, key: str, default: bool, problems: Problems) -> bool:
    value = content.get(key, default)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        problems.add(key, value, "needs true or false")
    return bool(value)
