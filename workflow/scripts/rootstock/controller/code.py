"""Which trained models of a plan were made by code other than the present code, and what a run can do about them.

This reads a file beside each model, so the Snakemake process asks once per run, and its jobs never ask.
"""

from collections.abc import Iterable
from pathlib import Path

from ..machine.private import read_json
from ..store.files import write_json
from ..store.objects import stored
from ..study import paths
from ..study.code import Source, code_digest
from ..study.plan import BaseTraining, Experiment, Plan
from ..study.problems import Refusal, StudyError
from ..study.spec import BaseSpec
from ..tasks.code import ANEW
from .checking import is_whole
from .missing import is_published

Training = BaseTraining | Experiment
SHOWN = 4  # models that a message names


def of_other_code(plan: Plan) -> dict[str, Training]:
    """The trainings, by hash, whose model records that other code made it; unreadable records do not count."""
    return {training.hash: training for training in _trainings(plan) if _is_of_other_code(plan, training)}


def code_notes(plan: Plan, found: dict[str, Training]) -> list[str]:
    """Notes for the reader of a plan: on these models, and on code that changed since the study's last run."""
    refused = f"they are refused when loaded; {ANEW.format(name='HASH')}"
    what = "they are trained anew" if plan.study.retrain else refused
    return [f"{told}; {what}" for told in made_by_other_code(plan, found)] + changed_code(plan, found)


def made_by_other_code(plan: Plan, found: dict[str, Training]) -> list[str]:
    """One line with the number of these models and the code concerned; none if there are no such models."""
    models = f"{len(found)} trained model{'s' * (len(found) != 1)}"
    return [f"{models} made by other code than is here now ({_files(plan, found.values())})"] if found else []


def require_code_of(
    plan: Plan, found: dict[str, Training], begun: Iterable[Training], loaded: Iterable[str] = ()
) -> None:
    """Raise `StudyError` if a run that begins these trainings and loads these models needs one of other code, unless
    the study retrains them."""
    needed = {name for training in begun for name in _needed(plan, training)} | set(loaded)
    refused = [name for name in found if name in needed]
    if refused and not plan.study.retrain:
        names = ", ".join(refused[:SHOWN]) + f" and {len(refused) - SHOWN} more" * (len(refused) > SHOWN)
        files = _files(plan, (found[name] for name in refused))
        fix = f"so nothing is begun; {ANEW.format(name='HASH')}"
        raise StudyError(
            [f"models that this run needs were made by other code than is here now ({files}): {names}; {fix}"]
        )


def to_begin(plan: Plan) -> list[Training]:
    """The trainings that a run of the whole plan begins: unpublished experiments and base models still needed."""
    experiments = [experiment for experiment in plan.experiments.values() if not is_published(experiment)]
    tops = [experiment.base for experiment in experiments if experiment.base] + plan.lone_bases
    names = dict.fromkeys(name for base in tops for name in plan.stages_of(base))
    return [*(plan.bases[name] for name in names if not Path(paths.base_model(name)).exists()), *experiments]


def remember_code(plan: Plan) -> None:
    """Record the code that a study runs with, so that the next run can report what changed."""
    codes = {_key(source): code_digest([source]) for source in _by_source(plan)}
    write_json(Path(paths.CODE_FILE.format(study=plan.study.name)), codes)


def changed_code(plan: Plan, found: dict[str, Training]) -> list[str]:
    """One line with the files that changed since this study last ran here, if some trainings are new as a result: the
    code of a user's own class is part of a training's hash."""
    try:
        before = read_json(Path(paths.CODE_FILE.format(study=plan.study.name)))
        changed = {
            s: names for s, names in _by_source(plan).items() if before.get(_key(s)) not in (None, code_digest([s]))
        }
    except (OSError, ValueError, Refusal):
        return []
    new = {
        name
        for names in changed.values()
        for name in names
        if name not in found and not is_whole(plan.study.store, name)
    }
    files = ", ".join(sorted({str(source) for source, names in changed.items() if names & new}))
    count = f"{len(new)} training{'s are' if len(new) != 1 else ' is'} new for that"
    return (
        [f"{files} changed since this study last ran here; {count}, and earlier models stay in the store"]
        if new
        else []
    )


def _trainings(plan: Plan) -> list[Training]:
    return [*plan.bases.values(), *plan.experiments.values()]


def _by_source(plan: Plan) -> dict[Source, set[str]]:
    """The hashes of the trainings that each piece of code builds."""
    found: dict[Source, set[str]] = {}
    for training in _trainings(plan):
        for source in plan.study.task.built_by(training.spec, _base_of(plan, training)):
            found.setdefault(source, set()).add(training.hash)
    return found


def _key(source: Source) -> str:
    return " ".join([str(source), *source.names])


def _needed(plan: Plan, training: Training) -> list[str]:
    """The models that a job of this training reads: its own and, if the store lacks that, the one it starts from."""
    before = training.spec.starts_from
    return [training.hash] + ([before] if before and not is_whole(plan.study.store, training.hash) else [])


def _files(plan: Plan, trainings: Iterable[Training]) -> str:
    """The files of code that build these trainings."""
    task = plan.study.task
    return ", ".join(
        sorted({str(s) for training in trainings for s in task.built_by(training.spec, _base_of(plan, training))})
    )


def _is_of_other_code(plan: Plan, training: Training) -> bool:
    try:
        recorded = _recorded(plan, training)
        return recorded is not None and recorded != plan.study.task.code_of(training.spec, _base_of(plan, training))
    except (OSError, ValueError, Refusal):
        return False  # the job that reads the file reports what is wrong with it


def _recorded(plan: Plan, training: Training) -> object:
    """The code that made a model, as its published copy records it, or else the store; None if neither does."""
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


def _base_of(plan: Plan, training: Training) -> BaseSpec | None:
    return plan.bases[training.base].spec if isinstance(training, Experiment) and training.base else None
