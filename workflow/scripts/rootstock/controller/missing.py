"""After a failed run: which results of a study are there, which are missing, and why. Light: no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..job.records import FOLDER
from ..machine.private import read_json
from ..study import paths
from ..study.plan import Experiment, Plan, Planned
from ..study.problems import Refusal
from .status import JobStatus, last_lines, study_status

SHOWN = 8  # reasons, and names per reason; missing.csv has all


@dataclass(frozen=True)
class Missing:
    """A missing experiment or classical model: its unit or name, its file or folder, and the reason in one line."""

    who: str
    path: str
    why: str


def is_published(experiment: Experiment) -> bool:
    """Whether an experiment is published with the results that the plan asks for."""
    try:
        done = read_json(Path(paths.experiment_done(experiment.prefix, experiment.unit)))
    except (OSError, ValueError, Refusal):
        return False
    return done.get("hash") == experiment.hash


def missing_of(plan: Plan, records: Path = FOLDER) -> list[Missing]:
    """All experiments, then all classical models, that a study asks for and that are not there."""
    jobs = {job.name: job for job in study_status(plan, records, has_ended=True)}
    wanted = {key: experiment for key, experiment in plan.experiments.items() if not is_published(experiment)}
    found = [Missing(one.unit, one.path, _why(plan, "/".join(key), one, jobs)) for key, one in wanted.items()]
    for name in plan.baselines:
        if not _baseline(plan, name).exists():
            log = Path(paths.BASELINE_LOG.format(study=plan.study.name, name=name))
            found.append(Missing(f"baseline {name}", str(_baseline(plan, name)), _last_word(log)))
    return found


def told(missing: list[Missing], plan: Plan) -> str:
    """The number of experiments that are there and, per reason, the names of the missing ones."""
    reasons: dict[str, list[str]] = {}
    for item in missing:
        reasons.setdefault(item.why, []).append(item.who)
    there = sum(map(is_published, plan.experiments.values()))
    lines = [f"partial: {there} of {len(plan.experiments)} experiments are there. Missing:"]
    for why, all_of_them in list(reasons.items())[:SHOWN]:
        who = list(dict.fromkeys(all_of_them))
        more = f" and {len(who) - SHOWN} more" if len(who) > SHOWN else ""
        lines.append(f"  {', '.join(who[:SHOWN])}{more}: {why}")
    if len(reasons) > SHOWN:
        lines.append(f"  and others for {len(reasons) - SHOWN} more reasons; missing.csv has all")
    return "\n".join(lines)


def without(plan: Plan, missing: list[Missing]) -> Plan:
    """The plan without its missing experiments and classical models."""
    gone = {item.path for item in missing}
    experiments = {key: found for key, found in plan.experiments.items() if found.path not in gone}
    baselines = {name: found for name, found in plan.baselines.items() if str(_baseline(plan, name)) not in gone}
    return replace(plan, experiments=experiments, baselines=baselines)


def _baseline(plan: Plan, name: str) -> Path:
    return Path(paths.BASELINE.format(study=plan.study.name, name=name))


def _why(plan: Plan, job: str, experiment: Experiment, jobs: Mapping[str, JobStatus]) -> str:
    """What stopped an experiment, whose training is `job`: data, the first missing base model, or its own training."""
    stages = reversed(plan.stages_of(experiment.base)) if experiment.base else []
    needed: list[tuple[str, Planned]] = [(name, plan.bases[name]) for stage in stages for name in _budgets(plan, stage)]
    for name, training in [*needed, (job, experiment)]:
        artefact = training.artefact
        if artefact and not Path(paths.prepared_done(artefact.name)).exists():
            log = Path(paths.PREPARED_LOG.format(name=artefact.name))
            return f"{paths.prepared(artefact.name)} is not prepared: {_last_word(log)}"
        if (status := jobs[name]).state != "done":
            is_own = training is experiment
            what = "its training" if is_own else f"{status.phase} {name}"
            return status.reason() if status.state == "failed" else f"{what} is {status.state}"
    return "its results are of other data; run the study again"


def _budgets(plan: Plan, base: str) -> list[str]:
    """The shorter trainings that a base model continues, the shortest first, and then the base model itself."""
    shorter = plan.bases[base].continues
    return [*(_budgets(plan, shorter) if shorter else []), base]


def _last_word(log: Path) -> str:
    return "".join(last_lines(log, 1)) or "not begun"
