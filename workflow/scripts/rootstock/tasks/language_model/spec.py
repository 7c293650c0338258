"""From requests to specs for language models: which trunk, which branch of it, on which text. Light: no torch, no numpy."""

from ...study.fields import inherited
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, short_digest
from ...study.problems import Problems, nearest
from ...study.request import Request, Unit
from ..defaults import adopted, baselines, notes, parent_request
from .settings import (
    GENERAL,
    Base,
    BaseSpec,
    Branch,
    Data,
    Finetune,
    FinetuneSpec,
    Model,
    PreparedSpec,
    Scope,
    Training,
)
from .source import artefact, check_data, complete_data, complete_scope, data_folder, identity_of

# What plan, scripts and engine ask of a task by name, but for the functions below.
__all__ = [
    "Base",
    "BaseSpec",
    "Data",
    "Finetune",
    "FinetuneSpec",
    "PreparedSpec",
    "Scope",
    "adopted",
    "artefact",
    "baselines",
    "check_data",
    "complete_data",
    "complete_scope",
    "data_folder",
    "notes",
    "parent_request",
]

RECIPE = 1  # raise it when the meaning of a training changes, never for a comment
DECAY_PCT = 0.2

# Names of a flat job list that are not the section's own name for the field.
FLAT = {
    "domain": ("unit", "domain"),
    "domains": ("scope", "domains"),
    "export": ("scope", "export"),
    "data_path": ("data", "path"),
}
UNIT_HELP = {"domain": "what the branch is about; not given for a cool_down, which goes on with all text"}
OWN_FINETUNE_FIELDS = tuple(Branch.model_fields)


def units(scope: Scope, problems: Problems) -> list[Unit]:
    """The trunk's own text, then a unit a domain."""
    return [Unit(GENERAL), *(Unit(name, {"domain": name}) for name in scope.domains)]


def any_unit(scope: Scope) -> list[Unit]:
    """Some unit, to check settings with where the study's own units are at fault."""
    return [Unit(GENERAL)]


def unit(scope: Scope, values: dict, key: str, problems: Problems) -> Unit | None:
    """The unit of one job: its `domain`, or the trunk's own text."""
    name = values.get("domain")
    if name is None:
        return Unit(GENERAL)
    if name not in scope.domains:
        problems.add(key.replace(".fold", ".domain"), name, f"unknown; {nearest(name, scope.domains)}")
        return None
    return Unit(name, {"domain": name})


def is_meant(request: Request) -> bool:
    """Whether a grid means this combination: a cool-down is about all text, other branches about one domain."""
    wish = request.finetune
    if wish is None:
        return request.unit.name == GENERAL
    if wish.branch_at not in (None, request.base.max_steps):
        return False
    return (wish.mode == "cool_down") == (request.unit.name == GENERAL)


def check(request: Request, problems: Problems) -> None:
    """Settings that fit their own field but not each other."""
    base, wish = request.base, request.finetune
    if base.d_model % base.n_heads:
        problems.add("base.d_model", base.d_model, f"is not divisible by n_heads: {base.n_heads}; change one of them")
    elif base.d_model // base.n_heads % 2:
        fix = f"leaves {base.d_model // base.n_heads} for each of {base.n_heads} heads; rotary positions need an even number"
        problems.add("base.d_model", base.d_model, fix)
    _check_training("base", base, problems)
    if wish is None:
        return
    _check_training("finetune", _inherit(request), problems)
    if (wish.mode == "cool_down") != (request.unit.name == GENERAL):
        fix = "goes on with all text; remove the domain" if wish.mode == "cool_down" else "needs a domain"
        problems.add("finetune.mode", wish.mode, fix)
    if wish.mode == "cool_down" and wish.target_data_pct != 1:
        problems.add(
            "finetune.target_data_pct", wish.target_data_pct, "is of a domain; a cool_down has none; remove it"
        )
    if wish.trained_layers is not None and wish.mode != "last_layers_only":
        problems.add("finetune.trained_layers", wish.trained_layers, f"needs mode last_layers_only, not {wish.mode}")
    if (wish.trained_layers or 1) > base.n_layers:
        problems.add("finetune.trained_layers", wish.trained_layers, f"is more than n_layers: {base.n_layers}")


def base_spec(request: Request, parent: None, fingerprints: Fingerprints, problems: Problems) -> BaseSpec | None:
    """The trunk of a request."""
    model = {name: getattr(request.base, name) for name in Model.model_fields}
    return BaseSpec(
        **_training(request.base),
        recipe=RECIPE,
        data=identity_of(request.data, fingerprints),
        model=Model(**model),
    )


def budget(spec: BaseSpec) -> tuple[str, int, bool]:
    """What trainings that differ only in their budget have in common, the budget, and whether a longer one may go on
    where a shorter one ended: where the learning rate does not depend on it and both end with an evaluation."""
    common = canonical(spec.model_copy(update={"max_steps": 0}))
    ends_together = spec.max_steps % spec.eval_every == 0
    return common if ends_together else canonical(spec), spec.max_steps, spec.schedule == "constant"


def finetune_spec(request: Request, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
    """The branch of a request: what it does not give it inherits, what its mode does not use is not there."""
    wish = request.finetune
    common = {
        "recipe": RECIPE,
        "base": base_hash,
        "data": base.data,
        "model": base.model,
        "mode": wish.mode,
        "domain": request.unit.values.get("domain"),
    }
    if wish.mode == "base_only":
        return FinetuneSpec(**common)
    return FinetuneSpec(
        **_training(_inherit(request)),
        **common,
        target_data_pct=None if wish.mode == "cool_down" else wish.target_data_pct,
        trained_layers=(wish.trained_layers or 1) if wish.mode == "last_layers_only" else None,
    )


def setting(request: Request, base: BaseSpec, finetune: FinetuneSpec, fingerprints: Fingerprints) -> dict:
    """What the branches of one setting share over all domains; it names their folder."""
    return {"base": base, "finetune": finetune.model_copy(update={"domain": None, "base": None})}


def row(request: Request, base: BaseSpec, finetune: FinetuneSpec) -> dict:
    """The settings of an experiment as columns: the branch's under their names, the trunk's with `base_` before."""
    own = ("mode", "domain", "target_data_pct", "trained_layers", *Training.model_fields)
    columns = {name: getattr(finetune, name) for name in own} | {"domain": request.unit.name}
    columns |= {f"base_{name}": getattr(base, name) for name in Training.model_fields}
    columns |= {f"base_{name}": value for name, value in base.model}
    return columns | {f"data_{name}": v for name, v in base.data if name != "content"}


def default_name(row: dict) -> str:
    """The readable part of a prefix where the study gives no template."""
    name = row["mode"]
    if row["target_data_pct"] is not None:
        name += f"_pct{row['target_data_pct']:g}"
    return f"{name}_at{row['base_max_steps']}"


def export_folder(request: Request, base: BaseSpec, finetune: FinetuneSpec | None) -> str | None:
    """Where a model goes as a Hugging Face folder, if the study exports."""
    if not request.scope.export:
        return None
    name = "trunk" if finetune is None else f"{finetune.mode}_{request.unit.name}"
    return f"artifacts/language_model/{name}_{short_digest(finetune or base)}"


def flat_job_of(base: BaseSpec) -> dict:
    """The settings of a trunk as fields of a flat job."""
    job = {name: v for name in Training.model_fields if (v := getattr(base, name)) is not None}
    return job | dict(base.model)


def misfit(base: BaseSpec, wanted: BaseSpec, finetune: FinetuneSpec) -> str | None:
    """Why a trunk chosen by hand cannot serve a branch that was described with the trunk `wanted`."""
    if base.model != wanted.model:
        return f"is of shape {canonical(base.model)}, the flags ask for {canonical(wanted.model)}"
    if base.data != finetune.data:
        return f"learned from {canonical(base.data)}, the flags name {canonical(finetune.data)}; use its own text"
    return None


def expectations(data: Data) -> dict:
    """What a study says of its text beyond its identity: nothing."""
    return {}


def cost(base: BaseSpec) -> float:
    """Relative compute of a trunk: steps × tokens × weights of its matrices."""
    shape = base.model
    weights = shape.n_layers * (4 * shape.d_model**2 + 3 * shape.d_model * shape.d_ff)
    return float(base.max_steps * base.batch_size * shape.context_length * weights)


def _check_training(key: str, wish: Training, problems: Problems) -> None:
    if wish.warmup_steps > wish.max_steps:
        problems.add(f"{key}.warmup_steps", wish.warmup_steps, f"is more than max_steps: {wish.max_steps}")
    if wish.decay_pct is not None and wish.schedule != "wsd":
        problems.add(f"{key}.decay_pct", wish.decay_pct, f"is for schedule wsd, not {wish.schedule}; remove it")


def _training(wish: Training) -> dict:
    """Training fields with the default share of the decay where the schedule has one."""
    values = {name: getattr(wish, name) for name in Training.model_fields}
    if wish.schedule == "wsd" and wish.decay_pct is None:
        values["decay_pct"] = DECAY_PCT
    return values


def _inherit(request: Request) -> Training:
    """The branch's own training settings over the trunk's; a cool-down ends at a learning rate of 0 unless told otherwise."""
    base, wish = request.base, request.finetune
    if wish.mode == "cool_down":
        base = base.model_copy(update={"schedule": "linear", "decay_pct": None})
    values = inherited(Training, base, wish, seed="seed_finetune")
    if values["schedule"] != "wsd":
        values["decay_pct"] = wish.decay_pct
    return Training(**values)
