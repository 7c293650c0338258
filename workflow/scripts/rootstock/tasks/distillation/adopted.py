"""Turn a two-phase distillation file (model, phase1, phase2, training, paths) into a study."""

from itertools import product
from typing import Any

from ...study.fields import Count, Section
from ...study.problems import Problems
from ...study.validate import read_value
from .phases import MODEL, RENAMED
from .settings import Base, Data, Finetune, Scope


class PerGPU(Section):
    """The size of a step as a two-phase file gives it: per GPU, where our sections give the global batch size."""

    batch_size: Count = 32
    gradient_accumulation_steps: Count = 1


SAME = ("warmup_steps", "mse_weight", "max_length")
STEP = ("batch_size", "gradient_accumulation_steps")
PHASE1 = (*STEP, *RENAMED, *SAME, "cosine_weight", "max_samples_per_dataset")
PHASE2 = (*STEP, *RENAMED, *SAME, "infonce_weight", "temperature", "num_negatives", "max_samples")
TRAINING = ("skip_phase1", "skip_phase2", "save_to_artifacts")
PATHS = ("artifacts_dir", "output_dir")
SECTIONS = {"model": MODEL, "phase1": PHASE1, "phase2": PHASE2, "training": TRAINING, "paths": PATHS}
KINDS: dict[str, tuple[type[Section], ...]] = {
    "model": (Data, Base),
    "phase1": (PerGPU, Base),
    "phase2": (PerGPU, Finetune),
    "training": (),
    "paths": (Scope,),
}
BESIDE = ("study", "task", "description", "data", "run", "store", "prefix")


def adopted(content: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the study that a two-phase file describes, or None for any other file.

    Raise `StudyError` with all faults at once, in the file's own keys. The file's batch size is per GPU and step; here
    it becomes that of one GPU over all accumulated steps, and the plan turns it into the global batch size
    (`run.batch_size_per_gpu`). A list sweeps, as in any study.
    """
    if not isinstance(content.get("model"), dict) or not {"phase1", "phase2"} & set(content):
        return None
    problems = Problems()
    _check(content, problems)
    problems.raise_if_any()
    model, phase1, phase2, training, paths, data, run = (
        dict(content.get(key) or {}) for key in (*SECTIONS, "data", "run")
    )
    data |= {key: model[key] for key in ("teacher", "teacher_dim") if key in model}
    if lengths := _counts(phase1.get("max_length", [])):
        data.setdefault("teacher_max_length", max(lengths))
    base = {key: model[key] for key in MODEL if key in model and not key.startswith("teacher")}
    base |= _phase(phase1)
    finetune = _phase(phase2) | {"in_batch_negatives": False}
    study = {key: content[key] for key in BESIDE if key in content}
    study |= {
        "study": content.get("study", name),
        "task": "distillation",
        "data": data,
        "base": base,
        "finetune": {"mode": "base_only"} if training.get("skip_phase2") else finetune,
        "run": {"batch_size_per_gpu": True} | _micro_batch(phase1, phase2) | run,
        "artifacts_dir": paths.get("artifacts_dir", "artifacts"),
        "save_to_artifacts": training.get("save_to_artifacts", False),
        "artifact_config": content.get("study", name),
        "artifact_hash": _sweeps(data, base, finetune),
        "two_phases": True,
    }
    return study | ({"train_bases": False} if training.get("skip_phase1") else {})


def _check(content: dict[str, Any], problems: Problems) -> None:
    """Check keys and values of the file's own sections; the rest is checked as part of the resulting study."""
    for key, section in content.items():
        if key not in (*SECTIONS, *BESIDE):
            problems.unknown_key(str(key), (*SECTIONS, *BESIDE))
        elif key in (*SECTIONS, "data", "run") and not isinstance(section, dict | None):
            problems.add(key, section, "needs keys and values")
        elif key in SECTIONS:
            for field, value in (section or {}).items():
                _check_field(key, field, value, problems)


def _check_field(section: str, field: str, value: Any, problems: Problems) -> None:
    key, ours = f"{section}.{field}", RENAMED.get(field, field)
    if field not in SECTIONS[section]:
        problems.unknown_key(key, SECTIONS[section])
        return
    if field in TRAINING and not isinstance(value, bool):
        problems.add(key, value, "needs true or false")
    fields = next((kind for kind in KINDS[section] if ours in kind.model_fields), None)
    if fields is None:
        return
    for choice in _listed(value):
        read_value(fields, ours, choice, key, problems)


def _phase(section: dict[str, Any]) -> dict[str, Any]:
    """The settings of one phase under our names. The batch size becomes that of one GPU over all accumulated steps."""
    ours = {RENAMED.get(key, key): value for key, value in section.items() if key not in STEP}
    batch, accumulated = (_counts(section.get(key, PerGPU.model_fields[key].default)) for key in STEP)
    sizes = [b * a for b, a in product(batch, accumulated)]
    return ours | {"batch_size": sizes[0] if len(sizes) == 1 else list(dict.fromkeys(sizes))}


def _micro_batch(*phases: dict[str, Any]) -> dict[str, Any]:
    """The micro-batch size that the file implies: its smallest batch size of one GPU and step."""
    sizes = [size for phase in phases for size in _counts(phase.get("batch_size", []))]
    return {"micro_batch_size": min(sizes)} if sizes else {}


def _sweeps(*sections: dict[str, Any]) -> bool:
    return any(isinstance(value, list) and len(value) > 1 for section in sections for value in section.values())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _counts(value: Any) -> list[int]:
    """One or more checked whole numbers as ints, because a user may write them as text."""
    return [int(float(one)) for one in _listed(value)]
