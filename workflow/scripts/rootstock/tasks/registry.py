"""Names to tasks. A module is imported when its task is asked for, so planning one never loads another."""

import gc
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

TASKS = {
    "activity": "rootstock.tasks.activity",
    "distillation": "rootstock.tasks.distillation",
    "language_model": "rootstock.tasks.language_model",
}


def planner(task: str) -> ModuleType:
    """The light side of a task: settings, specs, units. Imports no torch."""
    return _part(task, "spec")


def preparer(task: str) -> ModuleType:
    """How a task makes once what its trainings share."""
    return _part(task, "prepare")


def trainer(task: str) -> ModuleType:
    """The heavy side of a task: data, model, training."""
    return _part(task, "task")


def exporter(task: str) -> ModuleType:
    """How a task writes a trained model in the form that others use, where it can; apart, for that may need their libraries."""
    return _part(task, "export")


def has_exporter(task: str) -> bool:
    return find_spec(f"{TASKS[task]}.export") is not None


def reporter(task: str) -> ModuleType:
    """What a task shows of its results: columns, table, figure. May import pandas."""
    return _part(task, "report")


def baselines(task: str) -> ModuleType:
    """The reference methods of a task, where it has some; apart, for they need other libraries."""
    return _part(task, "baselines")


def _part(task: str, name: str) -> ModuleType:
    """A module of a task. While it is loaded the garbage collector rests, and what it brought is never looked at again:
    what torch and the like load lives as long as the process, and going over it takes a tenth of a short job's time."""
    module = f"{TASKS[task]}.{name}"
    if module not in sys.modules:
        gc.disable()
        try:
            import_module(module)
        finally:
            gc.freeze()
            gc.enable()
    return sys.modules[module]
