"""Tasks by name. A task's folder is imported only when the task is asked for, so planning one never loads another."""

from functools import cache
from importlib import import_module
from typing import Any

from ..study.contract import faults_of
from ..study.own import imported, is_own_path
from ..study.problems import Refusal, StudyError, nearest, show
from ..study.task import Task

# The first is the default for a study that names none.
BUILT_IN = {
    "activity": "rootstock.tasks.activity.task:Activity",
    "distillation": "rootstock.tasks.distillation.task:Distillation",
    "language_model": "rootstock.tasks.language_model.task:LanguageModeling",
}


class Registry:
    """Every task that a study may name: built-in ones, and any class `package.module:Class` in the project's folder."""

    names = tuple(BUILT_IN)

    def __init__(self):
        self.named: set[str] = set()  # classes that the user of this program named in a study, a spec or a flag

    def find(self, name: Any) -> Task:
        """The task of that name, one object per name. Raise `StudyError` with one line if there is none."""
        if isinstance(name, str) and name in BUILT_IN:
            return _made(name, BUILT_IN[name])
        if is_own_path(name):
            task = _made(name, name)
            self.named.add(name)
            return task
        fix = f"unknown; {nearest(name, self.names)}, or name a class of your own as package.module:Class"
        raise StudyError([f"task: {show(name)} {fix}"])

    def of_file(self, name: Any) -> Task:
        """The task that a file names, if it is built in or the user of this program named it before. Raise `Refusal`
        for any other: to import a class is to run its module, and a file may be anybody's."""
        if isinstance(name, str) and (name in BUILT_IN or name in self.named):
            return self.find(name)
        raise Refusal(f"task {show(name)}: is not built in; if it is your own and you trust it, name it by --task")


TASKS = Registry()


@cache
def _made(name: str, path: str) -> Task:
    module, _, class_name = path.partition(":")
    try:
        found = imported(path) if name == path else getattr(import_module(module), class_name)
    except (Exception, SystemExit) as error:  # a user's own module may fail in any way
        if isinstance(error, ModuleNotFoundError) and not module.startswith(error.name or "?"):
            raise  # the task is there, a package that it needs is not
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StudyError([f"task: {show(name)} cannot be loaded ({reason}); check the path"]) from None
    if name == path and (faults := faults_of(found)):  # tests check the built-in ones
        raise StudyError(f"task: {show(name)} {fault}" for fault in faults)
    return found(name)
