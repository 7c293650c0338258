"""Which trained models of a plan were made by other code than is here now.

It reads what is written beside each model, so the Snakemake process asks once a run, its jobs never.
"""

from pathlib import Path

from ..machine.private import read_json
from ..store.objects import stored
from ..study import paths
from ..study.plan import BaseTraining, Experiment, Plan
from ..study.problems import Refusal
from ..study.spec import BaseSpec


def of_other_code(plan: Plan) -> dict[str, BaseTraining | Experiment]:
    """The trainings, by hash, whose model here says that other code made it; one that cannot be read says nothing."""
    every = [*plan.bases.values(), *plan.experiments.values()]
    return {training.hash: training for training in every if _is_of_other_code(plan, training)}


def code_notes(plan: Plan, found: dict[str, BaseTraining | Experiment]) -> list[str]:
    """What the reader of a plan should know about these, a line where there are any."""
    if not found:
        return []
    task = plan.study.task
    sources = {str(s) for training in found.values() for s in task.built_by(training.spec, _base_of(plan, training))}
    refused = "they are refused when loaded; --config retrain=true or base_models.py forget trains them anew"
    what = "they are trained anew" if plan.study.retrain else refused
    models = f"{len(found)} trained model{'s' * (len(found) != 1)}"
    return [f"{models} made by other code than is here now ({', '.join(sorted(sources))}); {what}"]


def _is_of_other_code(plan: Plan, training: BaseTraining | Experiment) -> bool:
    try:
        recorded = _recorded(plan, training)
        return recorded is not None and recorded != plan.study.task.code_of(training.spec, _base_of(plan, training))
    except (OSError, ValueError, Refusal):
        return False  # the job that reads it says what is wrong with it


def _recorded(plan: Plan, training: BaseTraining | Experiment) -> object:
    """By which code a model was made: as it is published here, else as the store has it; None where nobody knows."""
    if isinstance(training, Experiment):
        published = Path(training.path, "config.json")
    else:
        published = Path(paths.BASE_METADATA.format(hash=training.hash))
    kept = stored(plan.study.store, training.hash)
    for file, below in ((published, None), (kept.metadata, kept.store)):
        try:
            return read_json(file, below).get("code")
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


def _base_of(plan: Plan, training: BaseTraining | Experiment) -> BaseSpec | None:
    return plan.bases[training.base].spec if isinstance(training, Experiment) and training.base else None
