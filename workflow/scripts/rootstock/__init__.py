"""Rootstock: every base model is trained once, under the name of what determined its weights.

Each folder is a room; its first lines say who lives there. Imports go downward only, lazy ones too:

    commands, controller   what scripts share; the Snakemake process
    slurm, cluster         what is changed of the Slurm plugin; a Slurm out of a list of servers
    job                    one job: training, preparing, launching, GPUs, records
    tasks                  what is trained, a folder a task
    results                tables and figures of what was published
    engine                 how anything is trained
    store                  where trained models are kept
    study                  from a study to a plan, and what a task must be
"""

from typing import TYPE_CHECKING

from .study.problems import Refusal

if TYPE_CHECKING:
    from .tasks.loading import load_model

__version__ = "0.1.0"
__all__ = ["Refusal", "load_model"]


def __getattr__(name: str) -> object:
    """`load_model` when it is asked for: it loads torch, which planning does without."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .tasks.loading import load_model

    return load_model
