"""Names to tasks. A module is imported when its task is asked for, so planning one never loads another."""

from importlib import import_module
from types import ModuleType

TASKS = {
    "activity": "rootstock.tasks.activity",
    "distillation": "rootstock.tasks.distillation",
    "language_model": "rootstock.tasks.language_model",
}


def planner(task: str) -> ModuleType:
    """The light side of a task: settings, specs, units. Imports no torch."""
    return import_module(f"{TASKS[task]}.spec")


def preparer(task: str) -> ModuleType:
    """How a task makes once what its trainings share."""
    return import_module(f"{TASKS[task]}.prepare")


def trainer(task: str) -> ModuleType:
    """The heavy side of a task: data, model, training."""
    return import_module(f"{TASKS[task]}.task")


def exporter(task: str) -> ModuleType:
    """How a task writes a trained model in the form that others use, where it can; apart, for that may need their libraries."""
    return import_module(f"{TASKS[task]}.export")


def reporter(task: str) -> ModuleType:
    """What a task shows of its results: columns, table, figure. May import pandas."""
    return import_module(f"{TASKS[task]}.report")


def baselines(task: str) -> ModuleType:
    """The reference methods of a task, where it has some; apart, for they need other libraries."""
    return import_module(f"{TASKS[task]}.baselines")
