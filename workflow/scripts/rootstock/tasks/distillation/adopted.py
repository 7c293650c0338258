"""A study of ours from a file in the form that users of two-phase distillation have: model, phase1, phase2, training, paths."""

from itertools import product
from typing import Any

from ...study.problems import Problems

MODEL = ("teacher", "student", "teacher_dim", "student_dim", "projection_hidden_dim", "use_projection")
SAME = ("warmup_steps", "mse_weight", "max_length")
RENAMED = {"learning_rate": "lr", "num_epochs": "max_epochs"}
STEP = ("batch_size", "gradient_accumulation_steps")
PHASE1 = (*STEP, *RENAMED, *SAME, "cosine_weight", "max_samples_per_dataset")
PHASE2 = (*STEP, *RENAMED, *SAME, "infonce_weight", "temperature", "num_negatives", "max_samples")
TRAINING = ("skip_phase1", "skip_phase2", "save_to_artifacts")
PATHS = ("artifacts_dir", "output_dir")
SECTIONS = {"model": MODEL, "phase1": PHASE1, "phase2": PHASE2, "training": TRAINING, "paths": PATHS}
BESIDE = ("study", "task", "description", "data", "run", "store", "prefix")


def adopted(content: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The study that such a file means; None where it is not one. Unknown keys raise, all at once.

    Its batch size is that of one GPU and one step: ours, the global one, is that × `gradient_accumulation_steps` ×
    `run.gpus`. A list sweeps, as in any study.
    """
    if not isinstance(content.get("model"), dict) or not {"phase1", "phase2"} & set(content):
        return None
    problems = Problems()
    _check_keys(content, problems)
    problems.raise_if_any()
    model, phase1, phase2 = (dict(content.get(key) or {}) for key in ("model", "phase1", "phase2"))
    training, paths = dict(content.get("training") or {}), dict(content.get("paths") or {})
    run = dict(content.get("run") or {})
    gpus = run.get("processes") or run.get("gpus") or 1
    data = dict(content.get("data") or {})
    data |= {key: model[key] for key in ("teacher", "teacher_dim") if key in model}
    if "max_length" in phase1:
        data.setdefault("teacher_max_length", phase1["max_length"])
    study = {key: content[key] for key in BESIDE if key in content and key not in ("data", "run")}
    base = {key: model[key] for key in MODEL if key in model and not key.startswith("teacher")}
    study |= {
        "study": content.get("study", name),
        "task": "distillation",
        "data": data,
        "run": run | _micro_batch(phase1, phase2),
        "artifacts_dir": paths.get("artifacts_dir", "artifacts"),
        "save_to_artifacts": training.get("save_to_artifacts", False),
        "artifact_config": content.get("study", name),
        "artifact_hash": _sweeps(data, study_base := base | _phase(phase1, gpus), phase2),
    }
    study["base"] = study_base
    skipped = training.get("skip_phase2")
    study["finetune"] = {"mode": "base_only"} if skipped else _phase(phase2, gpus) | {"in_batch_negatives": False}
    if training.get("skip_phase1"):
        study["train_bases"] = False
    return study


def _check_keys(content: dict[str, Any], problems: Problems) -> None:
    for key, value in content.items():
        if key in SECTIONS and value is not None and not isinstance(value, dict):
            problems.add(key, value, "needs keys and values")
        elif key in SECTIONS:
            for field in value or {}:
                if field not in SECTIONS[key]:
                    problems.unknown_key(f"{key}.{field}", SECTIONS[key])
        elif key not in BESIDE:
            problems.unknown_key(key, (*SECTIONS, *BESIDE))


def _phase(section: dict[str, Any], gpus: int) -> dict[str, Any]:
    """The settings of one phase under our names, its batch size that of all GPUs and accumulated steps."""
    ours = {RENAMED.get(key, key): value for key, value in section.items() if key not in STEP}
    batch, accumulated = (_listed(section.get(key, default)) for key, default in zip(STEP, (32, 1), strict=True))
    sizes = [b * a * gpus if _whole(b) and _whole(a) else b for b, a in product(batch, accumulated)]
    return ours | {"batch_size": sizes[0] if len(sizes) == 1 else list(dict.fromkeys(sizes))}


def _micro_batch(*phases: dict[str, Any]) -> dict[str, Any]:
    """The pairs at a time in memory that the file's user is used to: the smallest batch of one GPU and step."""
    sizes = [size for phase in phases for size in _listed(phase.get("batch_size")) if _whole(size)]
    return {"micro_batch_size": min(sizes)} if sizes else {}


def _sweeps(*sections: dict[str, Any]) -> bool:
    return any(isinstance(value, list) and len(value) > 1 for section in sections for value in section.values())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
