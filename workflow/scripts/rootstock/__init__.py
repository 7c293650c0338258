"""Rootstock: every base model is trained once, under the name of what determined its weights.

Each folder is a room; its first lines say who lives there. Imports go downward only, lazy ones too:

    commands, controller   what scripts share; the Snakemake process
    slurm, cluster         what is changed of the Slurm plugin; a Slurm out of a list of servers
    job                    one job: training, preparing, launching, GPUs, records
    warm                   the process that has torch loaded and forks one for each job, and its client
    tasks                  what is trained, a folder a task
    results                tables and figures of what was published
    engine                 how anything is trained
    store                  where trained models are kept
    study                  from a study to a plan, and what a task must be
"""

TYPE_CHECKING = False  # what type checkers read as true; `typing` itself takes a third of a warm job's time to load
if TYPE_CHECKING:
    from .study.problems import Refusal
    from .tasks.loading import load_model

__version__ = "0.1.0"
__all__ = ["Refusal", "load_model"]

HOMES = {"Refusal": "study.problems", "load_model": "tasks.loading"}


def __getattr__(name: str) -> object:
    """What is offered, when it is asked for: `load_model` loads torch, and a warm job's client not even `Refusal`."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{HOMES[name]}", __name__), name)
