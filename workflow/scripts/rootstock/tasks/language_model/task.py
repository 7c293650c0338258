"""Language models as the plan sees them: which trunk, which branch of it, on which text. Light: no torch, no numpy."""

import unicodedata
from pathlib import Path
from typing import Any

from ...study.code import Source
from ...study.fingerprints import Fingerprints
from ...study.identity import SHORT_LENGTH, canonical, digest, short_digest
from ...study.memory import Memory
from ...study.paths import unit_folder
from ...study.problems import Problems, nearest
from ...study.request import Artefact, Unit
from ...study.resumption import Place, Resumption
from ...study.spec import TrainingSpec
from ...study.task import Budget, Settings, Task
from . import checks, dataset, normal, resume
from .memory import memory_of
from .resolved import Asked, branch_training, low_rank, training_of
from .settings import GENERAL, TRAINING_COLUMNS, Base, Branch, Data, Finetune, Scope, Shape
from .specs import LORA, BaseSpec, FinetuneSpec, PreparedSpec, TextIdentity
from .start import model_of, pretrained

NETWORK = Source(Path(__file__).with_name("model.py"), ("LanguageModel",))
UPDATES = Source(Path(__file__).parents[2] / "engine/low_rank.py")
# Rewrites that changed no logit: grouped queries, own output layer, rotary positions, loss in chunks, masked documents.
SAME_CODE = {
    "87516cfb601793da": "7955dea229e1e490",
    "200ae72c62a4fa96": "27a98a65c93fef5d",
}


class LanguageModeling(Task[Scope, Data, Base, Finetune, BaseSpec, FinetuneSpec]):
    """A trunk learns from all text; its branches continue on one domain, or cool down on all."""

    unit_word = "domain"
    recipe = 1
    same_code = SAME_CODE
    has_blocks = True

    scope_section, data_section, base_section, finetune_section = Scope, Data, Base, Finetune
    base_spec_type, finetune_spec_type, prepared_spec_type = BaseSpec, FinetuneSpec, PreparedSpec

    own_finetune_fields = tuple(Branch.model_fields)
    flat = {
        "domain": ("unit", "domain"),
        "domains": ("scope", "domains"),
        "export": ("scope", "export"),
        "export_merged": ("scope", "export_merged"),
        "data_path": ("data", "path"),
        "pretrained": ("base", "start_from"),  # in the scripts, start_from is a checkpoint
    }
    unit_help = {"domain": "what the branch is about; not given for a cool_down, which continues with all text"}

    def complete_data(self, data: Data, key: str, problems: Problems) -> Data:
        return dataset.complete_data(data, key, problems)

    def complete_scope(self, scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
        """The scope, with every domain of the data if the study names none."""
        there = data.domains or ()
        for name in scope.domains or ():
            if there and name not in there:
                problems.unknown(f"{key}domains", name, there)
        return scope.model_copy(update={"domains": tuple(dict.fromkeys(scope.domains or there))})

    def units(self, scope: Scope, problems: Problems) -> list[Unit]:
        """The trunk's own text, then one unit per domain."""
        return [Unit(GENERAL), *(Unit(name, {"domain": name}) for name in scope.domains or ())]

    def any_unit(self, scope: Scope) -> list[Unit]:
        return [Unit(GENERAL)]

    def unit_of_job(self, scope: Scope, values: dict[str, Any], key: str, problems: Problems) -> Unit | None:
        """The job's `domain`, or the trunk's own text."""
        given, there = values.get("domain"), scope.domains or ()
        if given is None:
            return Unit(GENERAL)
        name = unicodedata.normalize("NFC", str(given))
        if name not in there:
            problems.add(key, given, f"unknown; {nearest(name, there)}")
            return None
        return Unit(name, {"domain": name})

    def is_meant(self, request: Asked) -> bool:
        """A cool-down is about all text, other branches about one domain."""
        wish = request.finetune
        if wish is None:
            return request.unit.name == GENERAL
        if wish.branch_at not in (None, request.base.max_steps):
            return False
        return (wish.mode == "cool_down") == (request.unit.name == GENERAL)

    def check_grid(self, bases: list[Base], finetunes: list[Finetune], problems: Problems) -> None:
        steps = sorted({base.max_steps for base in bases})
        for wanted in dict.fromkeys(wish.branch_at for wish in finetunes):
            if wanted not in (None, *steps):
                fix = f"is the max_steps of no trunk; here they have {', '.join(map(str, steps))}"
                problems.add("finetune.branch_at", wanted, fix)

    def check(self, request: Asked, problems: Problems) -> None:
        checks.check(request, problems)

    def base_spec(
        self, request: Asked, parent: tuple[BaseSpec, str] | None, fingerprints: Fingerprints, problems: Problems
    ) -> BaseSpec | None:
        data, model = dataset.identity_of(request.data, fingerprints), model_of(request.base)
        if model is None:
            return None
        begun = pretrained(request.base, request.data.tokenizer, data.tokenizer, fingerprints, problems)
        return BaseSpec(**training_of(request.base), recipe=self.recipe, data=data, model=model, start_from=begun)

    def finetune_spec(self, request: Asked, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
        wish = request.wish
        common: dict[str, Any] = {
            "recipe": self.recipe,
            "base": base_hash,
            "data": base.data,
            "model": base.model,
            "mode": wish.mode,
            "domain": request.unit.values.get("domain"),
        }
        if wish.mode == "base_only":
            return FinetuneSpec(**common)
        return FinetuneSpec(
            **training_of(branch_training(request)),
            **common,
            target_data_pct=None if wish.mode == "cool_down" else wish.target_data_pct,
            trained_layers=(wish.trained_layers or 1) if wish.mode == "last_layers_only" else None,
            **(low_rank(wish) if wish.mode == "lora" else {}),
        )

    def normalised(self, spec: TrainingSpec) -> TrainingSpec:
        assert isinstance(spec, BaseSpec | FinetuneSpec)
        return normal.normalised(spec)

    def budget(self, spec: BaseSpec | FinetuneSpec) -> Budget | None:
        """Exact if the learning rate does not depend on it and both trainings end with an evaluation. Patience is left
        out, because a training too short for it has none in its spec. None for a pretrained model as it is."""
        if not spec.max_steps:
            return None
        common = canonical(spec.model_copy(update={"max_steps": 0, "early_stopping_patience": None}))
        if spec.max_steps % spec.eval_every:
            common = canonical(spec)
        return Budget(common, spec.max_steps, "max_steps", spec.schedule == "constant", "steps")

    def cost(self, base: BaseSpec) -> float:
        """Steps × tokens × weights of its matrices."""
        shape = base.model
        weights = shape.n_layers * (4 * shape.d_model**2 + 3 * shape.d_model * shape.d_ff)
        return float(max(base.max_steps, 1) * base.batch_size * shape.context_length * weights)

    def memory(
        self, request: Asked, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints
    ) -> Memory:
        return memory_of(request.data, base, finetune, fingerprints)

    def location(self, data: Data) -> Artefact | str:
        return dataset.location(data)

    def settings(self, request: Asked, base: BaseSpec, finetune: FinetuneSpec) -> Settings:
        """Settings of the branch under their own names, those of the trunk with the prefix `base_`."""
        own = ("mode", "domain", "target_data_pct", "trained_layers", *LORA, *TRAINING_COLUMNS)
        columns = {name: getattr(finetune, name) for name in own} | {"domain": request.unit.name}
        columns |= {f"base_{name}": getattr(base, name) for name in TRAINING_COLUMNS}
        columns |= {f"base_{name}": getattr(base.model, name) for name in Shape.model_fields}
        columns |= {"base_start_from": request.base.start_from}
        return columns | {f"data_{name}": v for name, v in base.data if name != "content"}

    def folder_identity(
        self, request: Asked, base: BaseSpec, finetune: FinetuneSpec, fingerprints: Fingerprints
    ) -> dict[str, Any]:
        """What the branches of one setting share over all domains."""
        return {"base": base, "finetune": finetune.model_copy(update={"domain": None, "base": None})}

    def default_name(self, settings: Settings) -> str:
        name, share = settings["mode"], settings["target_data_pct"]
        name += "" if settings["rank"] is None else f"_r{settings['rank']}"
        return f"{name}{'' if share is None else f'_pct{share:g}'}_at{settings['base_max_steps']}"

    def export_folder(self, request: Asked, base: BaseSpec, finetune: FinetuneSpec | None) -> str | None:
        """A Hugging Face folder, if the study exports. The trunk is exported too, because adapters name it, unless
        updates are merged."""
        scope = request.scope
        if not scope.export or (finetune is None and request.finetune and scope.export_merged):
            return None
        if finetune is None:
            return f"artifacts/language_model/{trunk_folder(digest(base))}"
        name = f"{finetune.mode}{'_merged' if finetune.is_update and scope.export_merged else ''}"
        return f"artifacts/language_model/{name}_{unit_folder(request.unit.name)}_{short_digest(finetune)}"

    def identity_at(self, folder: str, spec: BaseSpec | FinetuneSpec) -> TextIdentity:
        return dataset.identity_at(Path(folder))

    def built_by(self, spec: BaseSpec | FinetuneSpec, base: BaseSpec | None) -> tuple[Source, ...]:
        return (NETWORK, UPDATES) if isinstance(spec, FinetuneSpec) and spec.is_update else (NETWORK,)

    def flat_job_of(self, base: BaseSpec) -> dict[str, Any]:
        job = {name: value for name in TRAINING_COLUMNS if (value := getattr(base, name)) is not None}
        if base.start_from is not None:  # of the pretrained model, only the content is known
            return job | {"context_length": base.model.context_length}
        return job | {name: getattr(base.model, name) for name in Shape.model_fields}

    def misfit(self, base: BaseSpec, wanted: BaseSpec, finetune: FinetuneSpec) -> str | None:
        if canonical(base.start_from) != canonical(wanted.start_from):
            told = "begins with a pretrained model" if base.start_from else "begins with new weights"
            return f"{told}, the flags do not say that; give the same --pretrained and --data_tokenizer, or none"
        if base.model != wanted.model:
            return f"is of shape {canonical(base.model)}, the flags ask for {canonical(wanted.model)}"
        return super().misfit(base, wanted, finetune)

    def about(self, spec: BaseSpec | FinetuneSpec) -> str:
        return "trunk" if isinstance(spec, BaseSpec) else f"{spec.mode} {spec.domain or GENERAL}"

    def passes(self, spec: BaseSpec | FinetuneSpec, step: int, epochs: float, data: str) -> float | None:
        return dataset.passes(spec, step, data)

    def may_continue(self, spec: BaseSpec | FinetuneSpec, other: BaseSpec | FinetuneSpec) -> bool:
        """Also if the spec itself records that it was resumed from `other`."""
        begun = spec.resumed_from
        return super().may_continue(spec, other) or (begun is not None and begun.hash == digest(other))

    def resumed(self, spec: BaseSpec | FinetuneSpec, place: Place, changes: dict[str, int]) -> Resumption:
        return resume.resumed(spec, place, changes)


def trunk_folder(base_hash: str) -> str:
    """The name of the folder that a trunk is exported to, beside those of its branches."""
    return f"trunk_{base_hash[:SHORT_LENGTH]}"
