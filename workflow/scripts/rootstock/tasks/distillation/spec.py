"""From requests to specs for distillation: which text, which teacher, which student, how trained. Light: no torch, no numpy."""

from ...study.fields import inherited
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, short_digest
from ...study.problems import Problems
from ...study.request import Request, Unit
from ..defaults import is_meant, notes, parent_request
from .adopted import adopted
from .settings import (
    Base,
    BaselineSpec,
    BaseSpec,
    Contrast,
    Data,
    Finetune,
    FinetuneSpec,
    PreparedSpec,
    Scope,
    Student,
    Training,
)
from .source import artefact, check_data, complete_data, identity_of, pretrained

# What plan, scripts and engine ask of a task by name, but for the functions below.
__all__ = [
    "Base",
    "BaseSpec",
    "BaselineSpec",
    "Data",
    "Finetune",
    "FinetuneSpec",
    "PreparedSpec",
    "Scope",
    "adopted",
    "artefact",
    "check_data",
    "complete_data",
    "is_meant",
    "notes",
    "parent_request",
]

RECIPE = 1  # raise it when the meaning of a training changes, never for a comment

# Names of a flat job list that are not the section's own name for the field.
FLAT = {"data_path": ("data", "path")}
UNIT_HELP = {}
OWN_FINETUNE_FIELDS = tuple(name for name in Contrast.model_fields if name != "mse_weight")  # phase 1 has one, too

ALL = Unit("all")
FAMILIES = ("mpnet", "minilm", "distilbert", "distilroberta", "roberta", "bert", "e5", "bge", "gte")


def complete_scope(scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
    """The scope as it is: nothing in it depends on the data. Its folder must lie in the project."""
    if (
        not scope.artifacts_dir.strip()
        or scope.artifacts_dir.startswith(("/", "~"))
        or ".." in scope.artifacts_dir.split("/")
    ):
        problems.add(f"{key}artifacts_dir", scope.artifacts_dir, "needs a folder inside the project, such as artifacts")
    return scope


def units(scope: Scope, problems: Problems) -> list[Unit]:
    """One unit: a student is about all of its text."""
    return [ALL]


def any_unit(scope: Scope) -> list[Unit]:
    return [ALL]


def unit(scope: Scope, values: dict, key: str, problems: Problems) -> Unit | None:
    return ALL


def data_folder(data: Data) -> None:
    """No training reads a user's own folder: all text is prepared."""
    return None


def expectations(data: Data) -> dict:
    return {}


def check(request: Request, problems: Problems) -> None:
    """Settings that fit their own field but not each other."""
    base, finetune = request.base, request.finetune
    _check_weights("base", base, ("mse_weight", "cosine_weight"), problems)
    if finetune:
        _check_weights("finetune", finetune, ("infonce_weight", "mse_weight"), problems)
        lonely = finetune.infonce_weight and not finetune.num_negatives and not finetune.in_batch_negatives
        if finetune.mode == "phase2" and lonely:
            fix = "leaves a query nothing to be told from; set num_negatives, or in_batch_negatives: true"
            problems.add("finetune.in_batch_negatives", False, fix)
    if base.use_projection and base.mrl_dimensions:
        fix = "are the student's own; set use_projection: false, or remove them"
        problems.add("base.mrl_dimensions", list(base.mrl_dimensions), fix)
    if not base.use_projection and base.projection_hidden_dim:
        fix = "needs use_projection: true; remove one of them"
        problems.add("base.projection_hidden_dim", base.projection_hidden_dim, fix)


def base_spec(request: Request, parent: None, fingerprints: Fingerprints, problems: Problems) -> BaseSpec | None:
    """The phase-1 training of a request, its student and teacher resolved."""
    wish = request.base
    data = identity_of(request.data, fingerprints, problems)
    student = _student(wish, fingerprints, problems)
    if data is None or student is None:
        return None
    teacher_dim, width = data.teacher.dimension, student.dimension
    if student.mrl_dimensions and width and max(student.mrl_dimensions) > min(width, teacher_dim or width):
        fix = f"goes beyond the student's {width} and the teacher's {teacher_dim} dimensions; make it smaller"
        problems.add("base.mrl_dimensions", max(student.mrl_dimensions), fix)
        return None
    if not wish.use_projection and width and teacher_dim and teacher_dim < width:
        fix = f"the teacher has {teacher_dim} dimensions, fewer than the student's {width}; set use_projection: true"
        problems.add("base.use_projection", False, fix)
        return None
    own = ("freeze_word_embeddings", "use_projection", "mse_weight", "cosine_weight", "max_samples_per_dataset")
    return BaseSpec(
        **{name: getattr(wish, name) for name in (*Training.model_fields, *own)},
        recipe=RECIPE,
        data=data,
        student=student,
    )


def budget(spec: BaseSpec) -> tuple[str, int, bool]:
    """Trainings that differ in epochs alone; the linear decay depends on them, so none goes on where another ended."""
    return canonical(spec.model_copy(update={"max_epochs": 0})), spec.max_epochs, False


def finetune_spec(request: Request, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
    """The phase-2 training of a request: what it does not give it has from phase 1."""
    wish = request.finetune
    common = {"recipe": RECIPE, "data": base.data, "mode": wish.mode, "base": base_hash}
    if wish.mode == "base_only":
        return FinetuneSpec(**common)
    training = inherited(Training, base, wish, seed="seed_finetune")
    own = ("infonce_weight", "mse_weight", "temperature", "num_negatives", "in_batch_negatives", "max_samples")
    return FinetuneSpec(**training, **common, **{name: getattr(wish, name) for name in own})


def setting(request: Request, base: BaseSpec, finetune: FinetuneSpec, fingerprints: Fingerprints) -> dict:
    """What names an experiment's folder."""
    return {"base": base, "finetune": finetune.model_copy(update={"base": None, "data": None})}


def row(request: Request, base: BaseSpec, finetune: FinetuneSpec) -> dict:
    """The settings of an experiment as columns: phase 2's under their names, phase 1's with `base_` before."""
    own = (*Contrast.model_fields, *Training.model_fields)
    columns = {name: getattr(finetune, name) for name in own if name != "seed_finetune"}
    columns |= {f"base_{name}": getattr(base, name) for name in BaseSpec.model_fields if name not in _NOT_COLUMNS}
    columns |= {"student": request.base.student, "base_layers": _joined(base.student.layers)}
    columns |= {"teacher": request.data.teacher, "base_dropout": base.student.dropout}
    columns |= {"projection_hidden_dim": base.student.projection_hidden_dim}
    return (
        columns
        | {"mrl_dimensions": _joined(base.student.mrl_dimensions), "student_name": student_name(base)}
        | {"architecture": short_digest([base.student, base.use_projection, base.max_length])}
    )


def default_name(row: dict) -> str:
    """The readable part of a prefix where the study gives no template."""
    layers = row["base_layers"]
    name = row["student_name"].removeprefix("distilled-") + (f"_layers{layers.replace(' ', '')}" if layers else "")
    return f"{name}_{'phase1' if row['mode'] == 'base_only' else 'phase2'}"


def student_name(base: BaseSpec) -> str:
    """A student's name as its users know it: `distilled-mpnet-3584d`, `distilled-mpnet-768d-mrl`."""
    model = base.student.model.name.rpartition("/")[2].lower()
    family = next((name for name in FAMILIES if name in model), model)
    if base.use_projection:
        return f"distilled-{family}-{base.data.teacher.dimension or 'teacher'}d"
    return f"distilled-{family}-{base.student.dimension or 'own'}d-mrl"


def baselines(
    request: Request, base: BaseSpec, fractions: tuple[float, ...], fingerprints: Fingerprints
) -> list[BaselineSpec]:
    """The teacher on the same text, and how fast it and this student are."""
    return [
        BaselineSpec(
            recipe=RECIPE,
            data=base.data,
            student=base.student,
            use_projection=base.use_projection,
            max_length=base.max_length,
        )
    ]


def export_folder(request: Request, base: BaseSpec, finetune: FinetuneSpec | None) -> str | None:
    """`artifacts/{model}-{config}`, and the setting's short hash where a study makes several."""
    scope = request.scope
    if not scope.save_to_artifacts:
        return None
    parts = [student_name(base), scope.artifact_config]
    if scope.artifact_hash:
        parts.append(short_digest([base, finetune and finetune.model_copy(update={"base": None})]))
    return f"{scope.artifacts_dir.rstrip('/')}/{'-'.join(part for part in parts if part)}"


def flat_job_of(base: BaseSpec) -> dict:
    """The settings of a base model as fields of a flat job, as far as flat fields can say them."""
    job = {name: v for name in Base.model_fields if (v := getattr(base, name, None)) is not None and name != "student"}
    job |= {
        name: getattr(base.student, name) for name in ("layers", "dropout", "projection_hidden_dim", "mrl_dimensions")
    }
    return {name: v for name, v in job.items() if v is not None} | {"student": base.student.model.name}


def misfit(base: BaseSpec, wanted: BaseSpec, finetune: FinetuneSpec) -> str | None:
    """Why a base model chosen by hand cannot serve a fine-tune that was described with the base `wanted`."""
    if base.data != wanted.data:
        return f"learned on {canonical(base.data)}, the flags name {canonical(wanted.data)}; use what it learned on"
    return None


def cost(base: BaseSpec) -> float:
    """Relative compute of a phase-1 training, enough to weigh trainings of one study."""
    return float(base.max_epochs * (len(base.student.layers) if base.student.layers else 6))


_NOT_COLUMNS = ("task", "recipe", "data", "student")


def _check_weights(key: str, section: Base | Finetune, names: tuple[str, str], problems: Problems) -> None:
    if not any(getattr(section, name) for name in names):
        problems.add(f"{key}.{names[0]}", 0, f"and {names[1]}: 0 leave nothing to learn; make one of them positive")


def _student(wish: Base, fingerprints: Fingerprints, problems: Problems) -> Student | None:
    found = pretrained(wish.student, "base.student", fingerprints, problems)
    if found is None:
        return None
    before = len(problems.lines)
    if wish.student_dim and found.width and wish.student_dim != found.width:
        problems.add("base.student_dim", wish.student_dim, f"is not what {wish.student} has; it has {found.width}")
    if wish.layers and len(set(wish.layers)) < len(wish.layers):
        problems.add("base.layers", list(wish.layers), "names a layer twice; name each once")
    if wish.layers and found.n_layers and max(wish.layers) >= found.n_layers:
        fix = f"is not there, {wish.student} has layers 0 to {found.n_layers - 1}"
        problems.add("base.layers", max(wish.layers), fix)
    if len(problems.lines) > before:
        return None
    width = found.width or wish.student_dim
    everything = found.n_layers and tuple(range(found.n_layers))
    hidden = wish.projection_hidden_dim or (4 * width if width else 3072)
    return Student(
        model=found.identity,
        dimension=width,
        layers=None if wish.layers == everything else wish.layers,
        dropout=wish.dropout,
        projection_hidden_dim=hidden if wish.use_projection else None,
        mrl_dimensions=wish.mrl_dimensions and tuple(sorted(set(wish.mrl_dimensions), reverse=True)),
    )


def _joined(values: tuple[int, ...] | None) -> str | None:
    return None if values is None else " ".join(map(str, values))
