"""From requests to specs for activity recognition: who trains, on what, with which model. Light: no torch, no numpy."""

import json
from dataclasses import replace
from pathlib import Path

from ...study.fields import NAME
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, sha256_text, short_digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact, Request, Unit
from ...study.validate import read_section
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

__all__ = ["Base", "BaseSpec", "BaselineSpec", "Data", "DataIdentity", "Finetune", "FinetuneSpec", "Scope"]

PreparedSpec = DataIdentity  # what is prepared is named by the identity of the data

RECIPE = 1  # raise it when the meaning of a training changes, never for a comment
SPLITS = ("train", "val", "test")

SMARTWATCH_VERSION = "seglearn-1.2.5"
SMARTWATCH_PEOPLE = tuple(f"s{n:02d}" for n in range(1, 11))
SMARTWATCH_DEFAULTS = {
    "window_size": 200,  # 4 s at 50 Hz
    "window_stride": 100,
    "split": (0.6, 0.2, 0.2),
    "pad": False,
    "mirror": False,
}

# Names of a flat job list that are not the section's own name for the field.
FLAT = {
    "fold": ("unit", "fold"),
    "participants": ("scope", "participants"),
    "data_path": ("data", "path"),
    "window_size": ("data", "window_size"),
    "base_participants": ("base", "participants"),
}
OWN_FINETUNE_FIELDS = tuple(Personal.model_fields)


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults: the smartwatch recordings where no folder is named."""
    if data.path is not None:
        for name in ("name", *SMARTWATCH_DEFAULTS):
            if name != "window_size" and getattr(data, name) is not None:
                problems.add(
                    f"{key}.{name}", getattr(data, name), "does not go with data.path (ready-made windows); remove it"
                )
        return data
    if data.n_classes is not None:
        problems.add(f"{key}.n_classes", data.n_classes, "is known for smartwatch; remove it")
    if data.split and abs(sum(data.split) - 1) > 1e-6:
        problems.add(f"{key}.split", list(data.split), "needs three shares that sum to 1")
    given = {k: v for k, v in data if v is not None}
    return Data(**{"name": "smartwatch", **SMARTWATCH_DEFAULTS, **given})


def complete_scope(scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
    """The scope with its participants: all of the data where none are listed; each one's files must exist."""
    known = SMARTWATCH_PEOPLE if data.path is None else _people_in(Path(data.path), problems)
    people = scope.participants or known
    for name in sorted({p for p in people if people.count(p) > 1}):
        problems.add(f"{key}participants", name, "is listed twice; list each once")
    for name in dict.fromkeys(people):
        if data.path is None and name not in known:
            problems.unknown(f"{key}participants", name, known)
        elif data.path is not None:
            for file in _files(Path(data.path), name):
                if Path(data.path).is_dir() and not file.is_file():
                    problems.add(
                        "data.path", str(file), f"no such file; put it there or remove {name} from participants"
                    )
    return scope.model_copy(update={"participants": tuple(people)})


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
        fold = int(fold) if not isinstance(fold, bool | float) else -1
    except (TypeError, ValueError):
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
        data=_identity(request.data, people, fingerprints),
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
        "data": _identity(request.data, (target,), fingerprints),
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
    return {
        "data": _identity(request.data, request.scope.participants, fingerprints),
        "base": base.model_copy(update={"participants": (), "data": None}) if finetune.base else None,
        "people": wanted if finetune.base else None,
        "finetune": finetune.model_copy(update={"target": "", "data": None, "base": None}),
    }


def row(request: Request, base: BaseSpec, finetune: FinetuneSpec) -> dict:
    """The settings of an experiment as columns: the fine-tune's under their names, the base's with `base_` before."""
    own = {name: getattr(finetune, name) for name in (*OWN_FINETUNE_FIELDS[:3], *Training.model_fields)}
    columns = {**own, "freeze_batch_norm": finetune.freeze_batch_norm, **request.unit.values}
    columns |= {f"data_{k}": v for k, v in finetune.data if k not in ("content",)}
    if finetune.base or finetune.model:
        columns |= {f"base_{k}": v for k, v in base.model.settings.items()}
        columns |= {"base_model": request.base.model}
    if finetune.base:
        columns |= {f"base_{name}": getattr(base, name) for name in Training.model_fields}
        columns |= {"base_participants": " ".join(base.participants), "n_base_participants": len(base.participants)}
    return columns


def default_name(row: dict) -> str:
    """The readable part of a prefix where the study gives no template."""
    name = row["mode"]
    if row["target_data_pct"] is not None:
        name += f"_pct{row['target_data_pct']:g}"
    if row["target_batch_pct"] is not None:
        name += f"_batch{row['target_batch_pct']:g}"
    return name


def artefact(data: Data) -> Artefact | None:
    """The prepared windows that a built-in data set needs; a folder needs none."""
    if data.path is not None:
        return None
    identity = _identity(data, (), None)
    return Artefact(f"smartwatch_{short_digest(identity)}", identity)


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
            data=_identity(request.data, others, fingerprints),
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
    if request.finetune and request.unit.values["target"] in base.participants:
        return [
            "base.participants: all: every target was seen in base training; these are not results on unseen people"
        ]
    return []


def _unit(scope: Scope, fold: int) -> tuple[str, dict]:
    target = scope.participants[fold]
    return f"fold{fold}_{target}", {"fold": fold, "target": target}


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
        for name in people:
            if name not in everyone:
                problems.unknown("base.participants", name, everyone)
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
    values = {name: getattr(base, name) for name in Training.model_fields}
    values |= {name: v for name in Training.model_fields if (v := getattr(wish, name, None)) is not None}
    if wish.seed_finetune is not None:
        values["seed"] = wish.seed_finetune
    if wish.early_stopping_patience_target is not None:
        values["early_stopping_patience"] = wish.early_stopping_patience_target
    return Training(**values)


def _identity(data: Data, people: tuple[str, ...], fingerprints: Fingerprints | None) -> DataIdentity:
    if data.path is None:
        settings = {name: getattr(data, name) for name in SMARTWATCH_DEFAULTS}
        return DataIdentity(name="smartwatch", version=SMARTWATCH_VERSION, **settings)
    contents = {name: fingerprints.of(_files(Path(data.path), name)) for name in people}
    return DataIdentity(name="folder", n_classes=data.n_classes, content=sha256_text(canonical(contents)))


def _found_identity(identity: DataIdentity, people: tuple[str, ...], folder: Path) -> DataIdentity:
    """The identity of what lies in `folder` now, seen as `identity` describes it."""
    try:
        if identity.name == "folder":
            contents = {name: Fingerprints().of(_files(folder, name)) for name in people}
            return identity.model_copy(update={"content": sha256_text(canonical(contents))})
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in (file for name in people for file in _files(folder, name)):
            if Fingerprints().of([file]) != manifest["content"][file.name]:
                raise Refusal(f"{file}: changed since it was prepared; delete {folder} and run again")
        return DataIdentity.model_validate(manifest["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{folder}: no data for {', '.join(people)} ({error}); prepare it or check --data_path") from None


def _files(folder: Path, participant: str) -> list[Path]:
    return [folder / f"{participant}_{split}.pt" for split in SPLITS]


def _people_in(folder: Path, problems: Problems) -> tuple[str, ...]:
    if not folder.is_dir():
        problems.add("data.path", str(folder), "no such folder; check the path")
        return ()
    names = sorted(file.name.removesuffix("_train.pt") for file in folder.glob("*_train.pt"))
    names = tuple(name for name in names if NAME.fullmatch(name) and ".." not in name)
    if len(names) < 2:
        problems.add(
            "data.path", str(folder), "needs {participant}_train.pt, _val.pt and _test.pt of two people or more"
        )
    return names


def expectations(data: Data) -> dict:
    """What a study says of its data beyond its identity; checked when the data is read."""
    return {"window_size": data.window_size} if data.window_size else {}


def check_data(spec: BaseSpec | FinetuneSpec, base: BaseSpec | None, folder: str) -> None:
    """Refuse data that is not what the specs name: it changed since planning, or the base model learned on another."""
    own = spec.participants if isinstance(spec, BaseSpec) else (spec.target,)
    for what, identity, people in ((None, spec.data, own), *(((base, base.data, base.participants),) if base else ())):
        found = _found_identity(identity, people, Path(folder))
        if found != identity:
            changed = (
                f"the base model learned on other data than {folder} holds"
                if what
                else f"{folder} changed since it was planned"
            )
            raise Refusal(
                f"data: {changed} ({canonical(found)} is not {canonical(identity)}); plan again with the right data"
            )


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


def data_folder(data: Data) -> str | None:
    """The user's own folder; None where the windows are prepared."""
    return data.path
