"""Activity recognition as the plan sees it: who trains, on what, with which model. Light: no torch, no numpy."""

import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...study.code import Source
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical
from ...study.memory import Memory
from ...study.problems import Problems
from ...study.request import Artefact, Unit
from ...study.spec import TrainingSpec
from ...study.task import Budget, Settings, Task
from . import adapting, dataset, normal, notes, people, personal
from .memory import memory_of
from .people import Asked, base_people, everyone, people_wanted, saw_target
from .presets import PRESETS, SAME_CODE, has_batch_norm, resolve_model, source_now, sources_of
from .resolved import of_finetune, training_of
from .settings import (
    BESIDE_OTHERS,
    GRADIENT_FREE,
    OVERRIDES,
    TRAINING_COLUMNS,
    Base,
    Data,
    Finetune,
    Personal,
    Scope,
)
from .specs import BaselineSpec, BaseSpec, DataIdentity, FinetuneSpec, Model


class Activity(Task[Scope, Data, Base, Finetune, BaseSpec, FinetuneSpec]):
    """Windows of body-worn sensors: one person is left out of base training and then fine-tuned on."""

    unit_word = "fold"
    recipe = 2
    same_code = SAME_CODE

    scope_section, data_section, base_section, finetune_section = Scope, Data, Base, Finetune
    base_spec_type, finetune_spec_type, baseline_spec_type = BaseSpec, FinetuneSpec, BaselineSpec
    prepared_spec_type = DataIdentity  # what is prepared is named by the identity of the data

    foundations = ("participants",)
    own_finetune_fields = tuple(Personal.model_fields)
    flat = {
        "fold": ("unit", "fold"),
        "participants": ("scope", "participants"),
        "data_path": ("data", "path"),
        "window_size": ("data", "window_size"),
        "base_participants": ("base", "participants"),
    }
    unit_help = {"fold": "which participant is the target, counted from 0"}

    def complete_data(self, data: Data, key: str, problems: Problems) -> Data:
        return dataset.complete_data(data, key, problems)

    def complete_scope(self, scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
        return dataset.complete_scope(scope, data, key, problems)

    def units(self, scope: Scope, problems: Problems) -> list[Unit]:
        """One unit per fold: the participant at that position is the target."""
        if scope.folds == "all":
            return [people.unit(scope, fold) for fold in range(len(everyone(scope)))]
        if not scope.folds:
            problems.add("folds", [], "is empty; use all or list positions")
        found = (people.checked_unit(scope, {"fold": fold}, "folds", problems) for fold in dict.fromkeys(scope.folds))
        return [unit for unit in found if unit]

    def any_unit(self, scope: Scope) -> list[Unit]:
        return [people.unit(scope, 0)]

    def unit_of_job(self, scope: Scope, values: dict[str, Any], key: str, problems: Problems) -> Unit | None:
        return people.checked_unit(scope, values, key, problems)

    def check(self, request: Asked, problems: Problems) -> None:
        for key, wish in (("base", request.base), ("finetune", request.finetune)):
            if wish and wish.magnitude_range and wish.magnitude_range[0] > wish.magnitude_range[1]:
                problems.add(f"{key}.magnitude_range", list(wish.magnitude_range), "needs [low, high] with low ≤ high")
            if wish and wish.pos_weight is not None and request.data.path is None and request.is_founded:
                fix = "is for binary data; smartwatch has 7 classes; remove it"
                problems.add(f"{key}.pos_weight", wish.pos_weight, fix)
        wish = request.finetune
        share = wish and wish.target_batch_pct
        if wish and share and (wish.batch_size or request.base.batch_size) < 2:
            problems.add("finetune.target_batch_pct", share, "needs a batch_size of at least 2")
        if wish and share and wish.mode not in BESIDE_OTHERS:
            modes = f"{', '.join(BESIDE_OTHERS[:2])} and {BESIDE_OTHERS[2]}"
            fix = f"is for {modes}, not {wish.mode}; remove it, or give each mode a grid of its own"
            problems.add("finetune.target_batch_pct", share, fix)
        adapting.recordings_of(request, problems)
        personal.check(request.base, wish, problems)
        people.check_test_set(request, problems)

    def notes(self, request: Asked, base: BaseSpec) -> list[str]:
        lines = [line for key in ("base", "finetune") for line in notes.without_augmentation(request, key)]
        given = (name for name in OVERRIDES if getattr(request.base, name) is not None)
        unknown = (name for name in given if name not in base.model.settings)
        lines += people.null_patience(request)
        lines += [f"base.{name}: has no effect, model {request.base.model} has no such setting" for name in unknown]
        if request.finetune and saw_target(request):
            lines.append(
                "base.participants: all, here or in a stage: every target was seen in base training; "
                "these are not results on unseen people"
            )
        return lines

    def earlier_stage(self, request: Asked, problems: Problems) -> Asked | None:
        return people.earlier_stage(request, problems)

    def base_spec(
        self, request: Asked, parent: tuple[BaseSpec, str] | None, fingerprints: Fingerprints, problems: Problems
    ) -> BaseSpec | None:
        """The spec, resolved to the set of people that it really trains on; None if a fault was reported."""
        learners = base_people(request, problems)
        model = resolve_model(request.base, request.scope.models, problems)
        if parent and model and parent[0].model != model:
            fix = f"is of another architecture than its next stage ({canonical(model)}); remove its model settings"
            problems.add("base.parent", request.base.parent, fix)
        if not learners or model is None:
            return None
        return BaseSpec(
            **training_of(request.base, request.data),
            recipe=self.recipe,
            data=dataset.identity_of(request.data, learners, fingerprints),
            participants=learners,
            model=model,
            parent=parent and parent[1],
        )

    def finetune_spec(self, request: Asked, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
        wish, target = request.wish, request.unit.values["target"]
        common: dict[str, Any] = {
            "recipe": self.recipe,
            "data": dataset.identity_of(request.data, (target,), fingerprints),
            "target": target,
            "mode": wish.mode,
            "base": None if wish.mode == "target_only" else base_hash,
            "adapt_on": adapting.recordings_of(request, Problems()),
        }
        if wish.mode == "base_only":
            return FinetuneSpec(**common)
        training = training_of(of_finetune(request.base, wish), request.data)
        return FinetuneSpec(
            **{"seed": training["seed"]} if wish.mode in GRADIENT_FREE else training,
            **common,
            **personal.amount_of(wish),
            **personal.of_mode(wish),
            target_batch_pct=wish.target_batch_pct,
            freeze_batch_norm=wish.freeze_batch_norm if _can_freeze(wish.mode, base.model) else None,
            model=base.model if wish.mode == "target_only" else None,
        )

    def normalised(self, spec: TrainingSpec) -> TrainingSpec:
        assert isinstance(spec, BaseSpec | FinetuneSpec)
        return normal.normalised(spec)

    def budget(self, spec: BaseSpec | FinetuneSpec) -> Budget:
        """The epochs; exact if the learning rate does not depend on them. Patience does not count: a training too short
        for it has none in its spec, a longer one may."""
        common = canonical(spec.model_copy(update={"max_epochs": 0, "early_stopping_patience": None}))
        return Budget(common, spec.max_epochs, "max_epochs", spec.schedule == "constant")

    def cost(self, base: BaseSpec) -> float:
        """People × epochs."""
        return float(len(base.participants) * base.max_epochs)

    def memory(
        self, request: Asked, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints
    ) -> Memory:
        return memory_of(request.data, base, finetune, fingerprints)

    def location(self, data: Data) -> Artefact | str:
        return dataset.location(data)

    def expectations(self, data: Data) -> dict[str, Any]:
        return {"window_size": data.window_size} if data.window_size else {}

    def settings(self, request: Asked, base: BaseSpec, finetune: FinetuneSpec) -> Settings:
        """The fine-tune's settings under their names, the base's with `base_` before the name."""
        own = {name: getattr(finetune, name) for name in (*self.own_finetune_fields[:3], *TRAINING_COLUMNS)}
        columns = {**own, "freeze_batch_norm": finetune.freeze_batch_norm, **request.unit.values}
        columns |= {f"data_{k}": v for k, v in finetune.data if k != "content"} | {"data_path": request.data.path}
        columns |= personal.columns(finetune)
        if finetune.adapt_on is not None:
            columns["adapt_on"] = adapting.shown(finetune.adapt_on, finetune.data)
        if finetune.base or finetune.model:
            columns |= {f"base_{k}": v for k, v in base.model.settings.items()} | {"base_model": request.base.model}
        if finetune.base:
            columns |= {f"base_{name}": getattr(base, name) for name in TRAINING_COLUMNS}
            columns |= {
                "base_participants": shlex.join(base.participants),
                "n_base_participants": len(base.participants),
            }
            parent = request.base.parent and json.dumps(request.base.parent, sort_keys=True)
            columns |= {"base_parent": parent, "base_saw_target": saw_target(request)}
        return columns

    def folder_identity(
        self, request: Asked, base: BaseSpec, finetune: FinetuneSpec, fingerprints: Fingerprints
    ) -> dict[str, Any]:
        """What the fine-tunes of one setting share over all folds."""
        own = {"participants": (), "data": None, "parent": None}  # differ between folds
        stages = {"parent": request.base.parent} if finetune.base and request.base.parent else {}
        return stages | {
            "data": dataset.identity_of(request.data, everyone(request.scope), fingerprints),
            "base": base.model_copy(update=own) if finetune.base else None,
            "people": people_wanted(request) if finetune.base else None,
            "finetune": finetune.model_copy(update={"target": "", "data": None, "base": None}),
        }

    def default_name(self, settings: Settings) -> str:
        name = settings["mode"]
        if settings["target_data_pct"] is not None:
            name += f"_pct{settings['target_data_pct']:g}"
        if settings["target_batch_pct"] is not None:
            name += f"_batch{settings['target_batch_pct']:g}"
        if "target_shots" in settings:
            name += f"_shots{settings['target_shots']}"
        if "adapt_on" in settings:
            name += f"_on_{settings['adapt_on']}"
        return name

    def baselines(
        self, bases: Iterable[tuple[Asked, BaseSpec]], settings: list[Settings], fingerprints: Fingerprints
    ) -> Iterator[tuple[int, BaselineSpec]]:
        """Classical models on the people of each base, never on the target itself, at the shares that the plan uses."""
        shares = {row["target_data_pct"] for row in settings} - {None}
        shots = {int(shots) for row in settings if (shots := row.get("target_shots")) is not None}
        for position, (request, base) in enumerate(bases):
            target = request.unit.values["target"]
            others = tuple(person for person in base.participants if person != target)
            for method in request.scope.baselines if others else ():
                spec = BaselineSpec(
                    recipe=1,  # of the classical models, whatever changes in networks
                    method=method,
                    data=dataset.identity_of(request.data, others, fingerprints),
                    participants=others,
                    target=target,
                    fractions=tuple(sorted(shares)),
                    shots=tuple(sorted(shots)),
                    adapt_on=adapting.recordings_of(request, Problems()),
                    seed=base.seed,
                )
                yield position, spec

    def identity_at(self, folder: str, spec: BaseSpec | FinetuneSpec) -> DataIdentity:
        return dataset.identity_at(Path(folder), spec)

    def built_by(self, spec: BaseSpec | FinetuneSpec, base: BaseSpec | None) -> tuple[Source, ...]:
        model = spec.model or (base and base.model)
        return sources_of(model) if model else ()

    def is_renamed_by_code(self, spec: BaseSpec | FinetuneSpec, base: BaseSpec | None) -> bool:
        model = spec.model or (base and base.model)
        return model is not None and source_now(model) != model.source

    def flat_job_of(self, base: BaseSpec) -> dict[str, Any]:
        job = {name: value for name in TRAINING_COLUMNS if (value := getattr(base, name)) is not None}
        job |= {name: value for name, value in base.model.settings.items() if name in OVERRIDES}
        presets = [name for name, (architecture, _) in PRESETS.items() if architecture == base.model.architecture]
        return job | ({"model": presets[0]} if presets else {})

    def misfit(self, base: BaseSpec, wanted: BaseSpec, finetune: FinetuneSpec) -> str | None:
        if base.model != wanted.model:
            asked = canonical(wanted.model)
            return (
                f"is of architecture {canonical(base.model)}, the flags ask for {asked}; give its --model and settings"
            )
        if base.data.model_copy(update={"content": None}) != finetune.data.model_copy(update={"content": None}):
            named = canonical(finetune.data)
            return f"learned on {canonical(base.data)}, the flags name {named}; use the data it learned on"
        if finetune.target in base.participants and finetune.target not in wanted.participants:
            return f"saw the target {finetune.target} in training; choose another base, or say --base_participants all"
        if finetune.target in base.participants and base.trains_on_all:
            return f"trained on the test set of the target {finetune.target}; choose another base"
        return None

    def about(self, spec: BaseSpec | FinetuneSpec) -> str:
        if isinstance(spec, BaseSpec):
            return f"base of {len(spec.participants)} people"
        return f"{spec.mode} {spec.target}"


def _can_freeze(mode: str, model: Model) -> bool:
    """Whether keeping BatchNorm's statistics makes a difference: not from scratch, and not if everything is frozen."""
    return mode in ("full_fine_tuning", "target_only_fine_tuning") and has_batch_norm(model)
