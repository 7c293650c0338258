"""From requests to specs for activity recognition: who trains, on what, with which model. Light: no torch, no numpy."""

import json
from dataclasses import replace

from ...study.fields import inherited
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical
from ...study.problems import Problems
from ...study.request import Request, Unit
from ...study.validate import read_section
from ..defaults import adopted, export_folder, is_meant
from .presets import PRESETS, has_batch_norm, resolve_model
from .settings import (
    AUGMENTATION_DEFAULTS,
    OVERRIDES,
    Base,
    BaselineSpec,
    BaseSpec,
    Data,
    DataIdentity,
    Finetune,
    FinetuneSpec,
    Model,
    Personal,
    Scope,
    Training,
)
from .source import (
    artefact,
    check_data,
    complete_data,
    complete_scope,
    data_folder,
    expectations,
    identity_of,
)

# What plan, scripts and engine ask of a task by name, but for the functions below.
__all__ = [
    "Base",
    "BaseSpec",
    "BaselineSpec",
    "Data",
    "Finetune",
    "FinetuneSpec",
    "Scope",
    "adopted",
    "artefact",
    "check_data",
    "complete_data",
    "complete_scope",
    "data_folder",
    "expectations",
    "export_folder",
    "is_meant",
]

PreparedSpec = DataIdentity  # what is prepared is named by the identity of the data

RECIPE = 1  # raise it when the meaning of a training changes, never for a comment

# Names of a flat job list that are not the section's own name for the field.
FLAT = {
    "fold": ("unit", "fold"),
    "participants": ("scope", "participants"),
    "data_path": ("data", "path"),
    "window_size": ("data", "window_size"),
    "base_participants": ("base", "participants"),
}
UNIT_HELP = {"fold": "which participant is the target, counted from 0"}
OWN_FINETUNE_FIELDS = tuple(Personal.model_fields)


def units(scope: Scope, problems: Problems) -> list[Unit]:
    """A unit a fold: the participant at that position is the target."""
    if scope.folds == "all":
        return [Unit(*_unit(scope, fold)) for fold in range(len(scope.participants))]
    if not scope.folds:
        problems.add("folds", [], "is empty; use all or list positions")
    return [u for fold in dict.fromkeys(scope.folds) if (u := unit(scope, {"fold": fold}, "folds", problems))]


def any_unit(scope: Scope) -> list[Unit]:
    """Some unit, to check settings with where the study's own units are at fault."""
    return [Unit(*_unit(scope, 0))]


def unit(scope: Scope, values: dict, key: str, problems: Problems) -> Unit | None:
    """The unit of one job: its `fold`."""
    fold, last = values.get("fold"), len(scope.participants) - 1
    if fold is None:
        problems.add(key, None, f"missing; {last + 1} participants have folds 0 to {last}")
        return None
    try:
        fold = -1 if isinstance(fold, bool) or float(fold) % 1 else int(float(fold))  # "1"; 1.0, as pandas writes it
    except (TypeError, ValueError, OverflowError):
        fold = -1
    if 0 <= fold <= last:
        return Unit(*_unit(scope, fold))
    problems.add(key, values.get("fold"), f"out of range; {last + 1} participants have folds 0 to {last}")
    return None


def check(request: Request, problems: Problems) -> None:
    """Settings that fit their own field but not each other."""
    for key, wish in (("base", request.base), ("finetune", request.finetune)):
        if wish and wish.magnitude_range and wish.magnitude_range[0] > wish.magnitude_range[1]:
            problems.add(f"{key}.magnitude_range", list(wish.magnitude_range), "needs [low, high] with low ≤ high")
        if wish and wish.pos_weight is not None and request.data.path is None:
            problems.add(
                f"{key}.pos_weight", wish.pos_weight, "is for binary data; smartwatch has 7 classes; remove it"
            )
    wish = request.finetune
    batch_size = (wish and wish.batch_size) or request.base.batch_size
    if wish and wish.target_batch_pct is not None and batch_size < 2:
        problems.add("finetune.target_batch_pct", wish.target_batch_pct, "needs a batch_size of at least 2")
    if wish and wish.target_batch_pct is not None and wish.mode != "full_fine_tuning":
        fix = f"needs mode full_fine_tuning, not {wish.mode}; remove it, or give each mode a grid of its own"
        problems.add("finetune.target_batch_pct", wish.target_batch_pct, fix)


def parent_request(request: Request, problems: Problems) -> Request | None:
    """The stage that a base training starts from, as a request of its own; None where it starts from scratch."""
    if request.base.parent is None:
        return None
    own = {name: value for name, value in request.base if name not in request.base.parent and name != "parent"}
    stage = read_section(Base, request.base.parent, "base.parent", problems)
    wish = Base(**own | {name: getattr(stage, name) for name in stage.model_fields_set})
    return replace(request, base=wish, finetune=None)


def base_spec(
    request: Request, parent: tuple[BaseSpec, str] | None, fingerprints: Fingerprints, problems: Problems
) -> BaseSpec | None:
    """The base training of a request, resolved to the set of people it really trains on."""
    people = _base_people(request, problems)
    model = resolve_model(request.base, request.scope.models, problems)
    if parent and model and parent[0].model != model:
        fix = f"is of another architecture than its next stage ({canonical(model)}); remove its model settings"
        problems.add("base.parent", request.base.parent, fix)
    if not people or model is None:
        return None
    return BaseSpec(
        **_training(request.base, request.data),
        recipe=RECIPE,
        data=identity_of(request.data, people, fingerprints),
        participants=people,
        model=model,
        parent=parent and parent[1],
    )


def budget(spec: BaseSpec) -> tuple[str, int, bool]:
    """What trainings that differ only in their budget have in common, the budget, and whether a longer one may go on
    where a shorter one ended: exactly so where the learning rate does not depend on the budget."""
    return canonical(spec.model_copy(update={"max_epochs": 0})), spec.max_epochs, spec.schedule == "constant"


def finetune_spec(request: Request, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
    """The fine-tune of a request: what it does not give it inherits, what its mode does not use is not there."""
    wish, target = request.finetune, request.unit.values["target"]
    common = {
        "recipe": RECIPE,
        "data": identity_of(request.data, (target,), fingerprints),
        "target": target,
        "mode": wish.mode,
        "base": None if wish.mode == "target_only" else base_hash,
    }
    if wish.mode == "base_only":
        return FinetuneSpec(**common)
    training = _training(_inherit(request.base, wish), request.data)
    return FinetuneSpec(
        **training,
        **common,
        target_data_pct=wish.target_data_pct,
        target_batch_pct=wish.target_batch_pct,
        freeze_batch_norm=wish.freeze_batch_norm if _can_freeze(wish.mode, base.model) else None,
        model=base.model if wish.mode == "target_only" else None,
    )


def setting(request: Request, base: BaseSpec, finetune: FinetuneSpec, fingerprints: Fingerprints) -> dict:
    """What the experiments of one setting share over all folds; it names their folder."""
    everyone, listed, first_n = request.scope.participants, request.base.participants, request.base.n_base_participants
    available = {"all": len(everyone), "others": len(everyone) - 1}.get(listed, len(listed))
    wanted = {
        "participants": request.scope.participants,
        "base_participants": request.base.participants,
        "n_base_participants": None if first_n in ("all", available) else first_n,
    }
    own = {"participants": (), "data": None, "parent": None}  # of this fold
    stages = {"parent": request.base.parent} if finetune.base and request.base.parent else {}
    return stages | {
        "data": identity_of(request.data, request.scope.participants, fingerprints),
        "base": base.model_copy(update=own) if finetune.base else None,
        "people": wanted if finetune.base else None,
        "finetune": finetune.model_copy(update={"target": "", "data": None, "base": None}),
    }


def row(request: Request, base: BaseSpec, finetune: FinetuneSpec) -> dict:
    """The settings of an experiment as columns: the fine-tune's under their names, the base's with `base_` before."""
    own = {name: getattr(finetune, name) for name in (*OWN_FINETUNE_FIELDS[:3], *Training.model_fields)}
    columns = {**own, "freeze_batch_norm": finetune.freeze_batch_norm, **request.unit.values}
    columns |= {f"data_{k}": v for k, v in finetune.data if k not in ("content",)} | {"data_path": request.data.path}
    if finetune.base or finetune.model:
        columns |= {f"base_{k}": v for k, v in base.model.settings.items()}
        columns |= {"base_model": request.base.model}
    if finetune.base:
        columns |= {f"base_{name}": getattr(base, name) for name in Training.model_fields}
        columns |= {"base_participants": " ".join(base.participants), "n_base_participants": len(base.participants)}
        parent = request.base.parent and json.dumps(request.base.parent, sort_keys=True)
        columns |= {"base_parent": parent, "base_saw_target": _saw_target(request)}
    return columns


def default_name(row: dict) -> str:
    """The readable part of a prefix where the study gives no template."""
    name = row["mode"]
    if row["target_data_pct"] is not None:
        name += f"_pct{row['target_data_pct']:g}"
    if row["target_batch_pct"] is not None:
        name += f"_batch{row['target_batch_pct']:g}"
    return name


def baselines(
    request: Request, base: BaseSpec, fractions: tuple[float, ...], fingerprints: Fingerprints
) -> list[BaselineSpec]:
    """Classical models on the people of one base, never on the target itself, at the fractions that the study uses."""
    target = request.unit.values["target"]
    others = tuple(person for person in base.participants if person != target)
    return [
        BaselineSpec(
            recipe=RECIPE,
            method=method,
            data=identity_of(request.data, others, fingerprints),
            participants=others,
            target=target,
            fractions=fractions,
            seed=base.seed,
        )
        for method in request.scope.baselines
        if others
    ]


def notes(request: Request, base: BaseSpec) -> list[str]:
    """What the reader of a plan should know about a request."""
    lines = []
    for key, wish in (("base", request.base), ("finetune", request.finetune)):
        own = wish and wish.use_augmentation
        if wish and not (request.base.use_augmentation if own is None else own):
            given = [name for name in AUGMENTATION_DEFAULTS if getattr(wish, name)]
            lines += [f"{key}.{name}: has no effect without use_augmentation: true" for name in given]
    unknown = [
        name for name in OVERRIDES if getattr(request.base, name) is not None and name not in base.model.settings
    ]
    lines += [f"base.{name}: has no effect, model {request.base.model} has no such setting" for name in unknown]
    if request.finetune and _saw_target(request):
        lines.append(
            "base.participants: all, here or in a stage: every target was seen in base training; "
            "these are not results on unseen people"
        )
    return lines


def _unit(scope: Scope, fold: int) -> tuple[str, dict]:
    target = scope.participants[fold]
    return f"fold{fold}_{target}", {"fold": fold, "target": target}


def _saw_target(request: Request) -> bool:
    """Whether any stage of a base training learned from the target."""
    stage: Request | None = request
    while stage:
        if request.unit.values["target"] in _base_people(stage, Problems()):
            return True
        stage = parent_request(stage, Problems())
    return False


def _base_people(request: Request, problems: Problems) -> tuple[str, ...]:
    """The sorted set of people of a base training."""
    wish, everyone, target = request.base, request.scope.participants, request.unit.values["target"]
    if wish.participants == "all":
        people = everyone
    elif wish.participants == "others":
        people = tuple(p for p in everyone if p != target)
    else:
        people = wish.participants
        for name in sorted({p for p in people if people.count(p) > 1}):
            problems.add("base.participants", name, "is listed twice; list each once")
        unknown = [name for name in people if name not in everyone]
        for name in unknown:
            problems.unknown("base.participants", name, everyone)
        if unknown:
            return ()
        if target in people:
            problems.add(
                "base.participants",
                list(people),
                f"contains {target}, the target of {request.unit.name}; leave it out, or use all",
            )
            return ()
    if wish.n_base_participants != "all":
        if wish.n_base_participants > len(people):
            problems.add(
                "base.n_base_participants", wish.n_base_participants, f"more than there are; at most {len(people)}"
            )
        people = people[: wish.n_base_participants]
    return tuple(sorted(set(people)))


def _can_freeze(mode: str, model: Model) -> bool:
    """Whether it makes a difference to keep BatchNorm's statistics: not from scratch, and not where all is frozen."""
    return mode in ("full_fine_tuning", "target_only_fine_tuning") and has_batch_norm(model)


def _training(wish: Training, data: Data) -> dict:
    """Training fields with the augmentation resolved: defaults where it is used, nothing where it is not."""
    values = {name: getattr(wish, name) for name in Training.model_fields}
    defaults = AUGMENTATION_DEFAULTS | (
        {} if data.path is None else {"rotation_std": 0.0}
    )  # a folder's axes are unknown
    for name, default in defaults.items():
        given = values[name] if values[name] is not None else default
        values[name] = given if wish.use_augmentation else None
    return values


def _inherit(base: Base, wish: Finetune) -> Training:
    """The fine-tune's own training settings over the base's."""
    patience = "early_stopping_patience_target"
    return Training(**inherited(Training, base, wish, seed="seed_finetune", early_stopping_patience=patience))


def flat_job_of(base: BaseSpec) -> dict:
    """The settings of a base model as fields of a flat job, as far as flat fields can say them."""
    job = {name: v for name in Training.model_fields if (v := getattr(base, name)) is not None}
    job |= {name: v for name, v in base.model.settings.items() if name in OVERRIDES}
    presets = [name for name, (architecture, _) in PRESETS.items() if architecture == base.model.architecture]
    return job | ({"model": presets[0]} if presets else {})


def misfit(base: BaseSpec, wanted: BaseSpec, finetune: FinetuneSpec) -> str | None:
    """Why a base model chosen by hand cannot serve a fine-tune that was described with the base `wanted`."""
    if base.model != wanted.model:
        return f"is of architecture {canonical(base.model)}, the flags ask for {canonical(wanted.model)}; give its --model and settings"
    if base.data.model_copy(update={"content": None}) != finetune.data.model_copy(update={"content": None}):
        return (
            f"learned on {canonical(base.data)}, the flags name {canonical(finetune.data)}; use the data it learned on"
        )
    if finetune.target in base.participants and finetune.target not in wanted.participants:
        return f"saw the target {finetune.target} in training; choose another base, or say --base_participants all"
    return None


def cost(base: BaseSpec) -> float:
    """Relative compute of a base training: people × epochs, enough to weigh trainings of one study."""
    return float(len(base.participants) * base.max_epochs)
