"""What the page of a study shows besides results, as plain values from the plan, the store and the records of jobs."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..job.records import read_record, record_path
from ..results.overview import Sharing
from ..store.objects import stored
from ..study import paths
from ..study.plan import Plan
from .missing import Missing, is_published
from .planning import analysis
from .status import study_status

ROOT = Path(__file__).resolve().parents[4]
NAN = float("nan")
MEMORY = {"memory MB": "peak_memory_mb", "GPU memory MB": "peak_gpu_memory_mb"}  # column: key in the metadata
STATES = ("wanted", "done", "failed", "missing")


def grid_of(plan: Plan) -> pd.DataFrame:
    """One row per setting: how many of its experiments are wanted, done, failed and missing."""
    failed = {job.name for job in study_status(plan, has_ended=True) if job.state == "failed"}
    rows: dict[str, Counter[str]] = {}
    for (prefix, unit), experiment in plan.experiments.items():
        is_failed = f"{prefix}/{unit}" in failed or experiment.base in failed
        state = "done" if is_published(experiment) else "failed" if is_failed else "missing"
        rows.setdefault(prefix, Counter()).update(("wanted", state))
    return pd.DataFrame([{"setting": name, **{state: row[state] for state in STATES}} for name, row in rows.items()])


def missing_table(missing: Iterable[Missing]) -> pd.DataFrame:
    return pd.DataFrame([(one.who, one.path, one.why) for one in missing], columns=["who", "path", "why"])


def metadata_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The metadata that the store keeps beside each model of a plan, by hash; empty for a model that is not there."""
    return {name: stored(plan.study.store, name).described() for name in sorted(plan.reaches)}


def sharing_of(plan: Plan, metadata: Mapping[str, dict[str, Any]]) -> Sharing:
    """The time that base trainings took, and would have taken if each experiment had trained its own."""
    took = {name: _number(metadata[name].get("seconds")) for name in plan.bases}
    wanted = [experiment.base for experiment in plan.experiments.values() if experiment.base] + plan.lone_bases
    times = Counter(stage for base in wanted for stage in plan.stages_of(base))
    recorded = [name for name in plan.bases if took[name] == took[name]]
    return Sharing(
        trained=len(plan.bases),
        alone=analysis(plan)["base_trainings_without_sharing"],
        recorded=len(recorded),
        seconds=sum(took[name] for name in recorded),
        seconds_alone=sum(took[name] * max(1, times[name]) for name in recorded),
    )


def stages_of(plan: Plan) -> list[tuple[str, int]]:
    """The stages of a study in their order, with the number of results of each."""
    depth = Counter(len(plan.stages_of(name)) for name in plan.bases)
    bases = [(f"base, stage {level}" if len(depth) > 1 else "base models", depth[level]) for level in sorted(depth)]
    measured = len(plan.experiments) - len(plan.fine_tunes)
    return [
        ("prepared data", len(plan.artefacts)), *bases, ("fine-tunes", len(plan.fine_tunes)), ("measured bases", measured),
        ("classical models", len(plan.baselines)), ("exports", len(plan.exports)),
    ]  # fmt: skip


def records_of(plan: Plan, metadata: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One row per training or measurement: its stage, its training time, the time of its last job, its peak memory."""
    study = plan.study.name
    rows = [("base models", "base", name, name) for name in plan.bases]
    for (prefix, unit), experiment in plan.experiments.items():
        stage = "fine-tunes" if experiment.spec.trains else "measured bases"
        rows.append((stage, "finetune", f"{prefix}/{unit}", experiment.hash))
    found = []
    for stage, phase, job, name in rows:
        record = read_record(record_path(study, phase, job)) or {}
        took = _number(record.get("ended")) - _number(record.get("started")) if record.get("returncode") == 0 else NAN
        trained = _number(metadata[name].get("seconds")) if stage != "measured bases" else NAN
        row = {"stage": stage, "training seconds": trained, "job seconds": took}
        found.append(row | {column: _number(metadata[name].get(kept)) for column, kept in MEMORY.items()})
    return pd.DataFrame(found, columns=["stage", "training seconds", "job seconds", *MEMORY])


def models_of(plan: Plan, metadata: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One row per base model and experiment: its name, the code that made it, its checksum, its spec."""
    rows = [("base model", name, paths.base_model(name)) for name in plan.bases]
    rows += [("experiment", experiment.hash, experiment.path) for experiment in plan.experiments.values()]
    return pd.DataFrame([_model(kind, name, path, metadata[name]) for kind, name, path in rows])


def _model(kind: str, name: str, path: str, known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": kind,
        "hash": name,
        "path": path,
        "code": known.get("code"),
        "epochs": known.get("epochs"),
        "kept epoch": known.get("best_epoch"),
        "sha256 of the model": known.get("model_sha256"),
        "spec": known.get("spec_json"),
    }


def facts_of(plan: Plan, metadata: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The programs, machines and data that made the study; what nobody recorded is left out."""
    known = list(metadata.values())
    facts = {"study": plan.study.name, "task": plan.study.task_name, "models in": plan.study.store}
    for what in ("rootstock", "python", "torch"):
        facts[f"{what}, when it trained"] = _counted(_mapping(one, "versions").get(what) for one in known)
    for what in ("device_used", "threads", "compile"):
        facts[what.replace("_", " ")] = _counted(_mapping(one, "run").get(what) for one in known)
    facts["code of the networks"] = _counted(one.get("code") for one in known)
    facts["data"] = _counted(one.get("data") for one in known)
    facts["commit of this folder"] = _commit()
    facts["to make it again"] = "save the study below as study.yaml, then: make run STUDY=study.yaml"
    facts["the study, as JSON, which is YAML"] = json.dumps(
        {"study": plan.study.name} | json.loads(plan.content), ensure_ascii=False
    )
    return {what: value for what, value in facts.items() if value}


def _counted(values: Iterable[Any]) -> str:
    """The values other than None, each with its number if they differ."""
    found = Counter(str(value) for value in values if value is not None)
    return (
        next(iter(found), "")
        if len(found) < 2
        else ", ".join(f"{value} ({count})" for value, count in found.most_common())
    )


def _mapping(known: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = known.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else NAN
    except OverflowError:  # an integer of hundreds of digits
        return NAN


def _commit() -> str:
    """The commit of the checkout that this program runs from; empty if it is not a checkout."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        found = [
            subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return found[0] + (", with changes" if found[1] else "")
