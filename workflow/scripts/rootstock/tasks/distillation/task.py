"""Distillation as the plan sees it: which text, which teacher, which student, how trained. Light: no torch, no numpy."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...study.code import Source
from ...study.fields import inherited
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, short_digest
from ...study.memory import Memory
from ...study.problems import Problems
from ...study.request import Artefact, Request
from ...study.spec import TrainingSpec
from ...study.task import Budget, Settings, Task
from . import adopted, dataset, normal
from .memory import memory_of
from .pretrained import Pretrained, pretrained
from .settings import TRAINING_COLUMNS, Base, Contrast, Data, Finetune, Scope, Training
from .specs import LORA, BaselineSpec, BaseSpec, DataIdentity, FinetuneSpec, PreparedSpec, Student

Asked = Request[Scope, Data, Base, Finetune]

FAMILIES = ("mpnet", "minilm", "distilbert", "distilroberta", "roberta", "bert", "e5", "bge", "gte")
OF_PHASE1 = (
    "freeze_word_embeddings", "use_projection", "mse_weight", "cosine_weight", "retrieval_weight", "max_samples_per_dataset",
)  # fmt: skip
OF_PHASE2 = ("infonce_weight", "mse_weight", "temperature", "num_negatives", "in_batch_negatives", "max_samples")
RANK = 8  # of an update, unless the study gives one
UPDATES = Source(Path(__file__).parents[2] / "engine/low_rank.py")
NETWORK = Source(Path(__file__).with_name("student.py"), ("SentenceEncoder", "Tokenizer", "load_model"))
OF_STUDENT = ("layers", "dropout", "projection_hidden_dim", "mrl_dimensions")


class Distillation(Task[Scope, Data, Base, Finetune, BaseSpec, FinetuneSpec]):
    """A student learns a teacher's vectors (phase 1, the base) and then to retrieve (phase 2, the fine-tune)."""

    recipe = 1

    scope_section, data_section, base_section, finetune_section = Scope, Data, Base, Finetune
    base_spec_type, finetune_spec_type = BaseSpec, FinetuneSpec
    prepared_spec_type, baseline_spec_type = PreparedSpec, BaselineSpec

    own_finetune_fields = tuple(name for name in Contrast.model_fields if name != "mse_weight")  # phase 1 has one, too
    flat = {"data_path": ("data", "path")}

    def adopted(self, content: dict[str, Any], name: str) -> dict[str, Any] | None:
        return adopted.adopted(content, name)

    def complete_data(self, data: Data, key: str, problems: Problems) -> Data:
        return dataset.complete_data(data, key, problems)

    def complete_scope(self, scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
        """The scope as it is: nothing in it depends on the data. Its folder must lie in the project."""
        folder = scope.artifacts_dir
        if not folder.strip() or folder.startswith(("/", "~")) or ".." in folder.split("/"):
            problems.add(f"{key}artifacts_dir", folder, "needs a folder inside the project, such as artifacts")
        return scope

    def check(self, request: Asked, problems: Problems) -> None:
        base, finetune = request.base, request.finetune
        _check_weights("base", base, ("mse_weight", "cosine_weight"), problems)
        if finetune:
            _check_weights("finetune", finetune, ("infonce_weight", "mse_weight"), problems)
            lonely = finetune.infonce_weight and not finetune.num_negatives and not finetune.in_batch_negatives
            if finetune.mode != "base_only" and lonely:
                fix = "leaves a query nothing to be told from; set num_negatives, or in_batch_negatives: true"
                problems.add("finetune.in_batch_negatives", False, fix)
            if finetune.mode != "base_only" and finetune.topic_batches and not finetune.in_batch_negatives:
                problems.add("finetune.topic_batches", True, "needs in_batch_negatives: true; remove one of them")
            for name in LORA:
                if finetune.mode != "lora" and (value := getattr(finetune, name)) is not None:
                    problems.add(f"finetune.{name}", value, f"needs mode lora, not {finetune.mode}")
        if base.use_projection and base.mrl_dimensions:
            fix = "are the student's own; set use_projection: false, or remove them"
            problems.add("base.mrl_dimensions", list(base.mrl_dimensions), fix)
        if not base.use_projection and base.projection_hidden_dim:
            fix = "needs use_projection: true; remove one of them"
            problems.add("base.projection_hidden_dim", base.projection_hidden_dim, fix)
        if not request.is_founded:  # else `base_spec` reports the student's faults
            _student(base, Fingerprints(), problems)

    def notes(self, request: Asked, base: BaseSpec) -> list[str]:
        """Note that a projection costs recall if it is neither asked for nor needed."""
        is_needed = base.student.dimension is None or base.student.dimension != base.data.teacher.dimension
        if not base.use_projection or is_needed or "use_projection" in request.base.model_fields_set:
            return []
        return [
            "base.use_projection: true, the default, costs recall where teacher and student have the same dimensions; try false"
        ]

    def base_spec(
        self, request: Asked, parent: tuple[BaseSpec, str] | None, fingerprints: Fingerprints, problems: Problems
    ) -> BaseSpec | None:
        """Phase 1, its student and teacher resolved."""
        wish = request.base
        data = dataset.identity_of(request.data, fingerprints, problems)
        student = _student(wish, fingerprints, problems)
        if data is None or student is None or not _fit_together(wish, student, data.teacher.dimension, problems):
            return None
        own = {name: getattr(wish, name) for name in (*Training.model_fields, *OF_PHASE1)}
        return BaseSpec(**own, recipe=self.recipe, data=data, student=student)

    def finetune_spec(self, request: Asked, base: BaseSpec, base_hash: str, fingerprints: Fingerprints) -> FinetuneSpec:
        """Phase 2; settings that it does not give are those of phase 1."""
        wish = request.wish
        common: dict[str, Any] = {"recipe": self.recipe, "data": base.data, "mode": wish.mode, "base": base_hash}
        if wish.mode == "base_only":
            return FinetuneSpec(**common)
        training = inherited(Training, base, wish, seed="seed_finetune")
        rank = wish.rank or RANK
        own: dict[str, Any] = {name: getattr(wish, name) for name in OF_PHASE2}
        own |= {"rank": rank, "alpha": wish.alpha or 2.0 * rank} if wish.mode == "lora" else {}
        own |= {name: getattr(wish, name) or None for name in ("teacher_negatives", "topic_batches")}
        return FinetuneSpec(**training, **common, **own)

    def normalised(self, spec: TrainingSpec) -> TrainingSpec:
        assert isinstance(spec, BaseSpec | FinetuneSpec)
        return normal.normalised(spec)

    def budget(self, spec: BaseSpec | FinetuneSpec) -> Budget:
        """Never exact, because the linear decay depends on the budget."""
        common = canonical(spec.model_copy(update={"max_epochs": 0}))
        return Budget(common, spec.max_epochs, "max_epochs", is_exact=False)

    def cost(self, base: BaseSpec) -> float:
        """Epochs × layers."""
        return float(base.max_epochs * (len(base.student.layers) if base.student.layers else 6))

    def memory(
        self, request: Asked, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints
    ) -> Memory:
        return memory_of(request.base, request.data, base, finetune, fingerprints)

    def location(self, data: Data) -> Artefact | str:
        return dataset.location(data)

    def settings(self, request: Asked, base: BaseSpec, finetune: FinetuneSpec) -> Settings:
        """Settings of phase 2 under their own names, those of phase 1 with the prefix `base_`."""
        own = (*(name for name in Contrast.model_fields if name != "seed_finetune"), *TRAINING_COLUMNS)
        columns = {name: getattr(finetune, name) for name in own}
        columns |= {f"base_{name}": getattr(base, name) for name in (*TRAINING_COLUMNS, *OF_PHASE1)}
        columns |= {"student": request.base.student, "base_layers": _joined(base.student.layers)}
        columns |= {"teacher": request.data.teacher, "base_dropout": base.student.dropout}
        columns |= {"projection_hidden_dim": base.student.projection_hidden_dim}
        columns |= {"mrl_dimensions": _joined(base.student.mrl_dimensions), "student_name": _student_name(base)}
        return columns | {"architecture": short_digest([base.student, base.use_projection, base.max_length])}

    def default_name(self, settings: Settings) -> str:
        layers, phase = settings["base_layers"], "phase1" if settings["mode"] == "base_only" else "phase2"
        phase += "" if settings["rank"] is None else f"_lora_r{settings['rank']}"
        name = settings["student_name"].removeprefix("distilled-")
        return f"{name}_layers{layers.replace(' ', '')}_{phase}" if layers else f"{name}_{phase}"

    def baselines(
        self, bases: Iterable[tuple[Asked, BaseSpec]], settings: list[Settings], fingerprints: Fingerprints
    ) -> Iterator[tuple[int, BaselineSpec]]:
        """The teacher on the same text, and the speed of the teacher and each student."""
        same = ("data", "student", "use_projection", "max_length")
        for position, (_, base) in enumerate(bases):
            yield position, BaselineSpec(recipe=self.recipe, **{name: getattr(base, name) for name in same})

    def export_folder(self, request: Asked, base: BaseSpec, finetune: FinetuneSpec | None) -> str | None:
        """`artifacts/{model}-{config}`, then `phase1` for a model of phase 1 alone, then with `artifact_hash` the
        setting's short hash. Updates are merged, so their base model needs no export."""
        scope = request.scope
        if not scope.save_to_artifacts or (finetune is None and request.finetune):
            return None
        parts = [_student_name(base), scope.artifact_config, None if finetune and finetune.trains else "phase1"]
        if scope.artifact_hash:
            parts.append(short_digest([base, finetune and finetune.model_copy(update={"base": None})]))
        return f"{scope.artifacts_dir.rstrip('/')}/{'-'.join(part for part in parts if part)}"

    def identity_at(self, folder: str, spec: BaseSpec | FinetuneSpec) -> DataIdentity:
        return dataset.identity_at(Path(folder), spec)

    def built_by(self, spec: BaseSpec | FinetuneSpec, base: BaseSpec | None) -> tuple[Source, ...]:
        return (NETWORK, UPDATES) if isinstance(spec, FinetuneSpec) and spec.is_update else (NETWORK,)

    def flat_job_of(self, base: BaseSpec) -> dict[str, Any]:
        job = super().flat_job_of(base)
        if base.student.model.name is None:  # of a model in a folder, only the content is known
            return job
        job |= {name: getattr(base.student, name) for name in OF_STUDENT} | {"student": base.student.model.name}
        return {name: value for name, value in job.items() if value is not None}

    def about(self, spec: BaseSpec | FinetuneSpec) -> str:
        if isinstance(spec, BaseSpec):
            return f"phase 1 of {_student_name(spec)}"
        return {"base_only": "phase 1, measured", "lora": "phase 2, lora"}.get(spec.mode, "phase 2")


def _student_name(base: BaseSpec) -> str:
    """A student's name as its users know it: `distilled-mpnet-3584d`, with nested dimensions `distilled-mpnet-768d-mrl`."""
    model = Path(base.student.model.known_as).name.lower()
    family = next((name for name in FAMILIES if name in model), model)
    if base.use_projection:
        return f"distilled-{family}-{base.data.teacher.dimension or 'teacher'}d"
    return f"distilled-{family}-{base.student.dimension or 'own'}d{'-mrl' if base.student.mrl_dimensions else ''}"


def _check_weights(key: str, section: Base | Finetune, names: tuple[str, str], problems: Problems) -> None:
    if not any(getattr(section, name) for name in names):
        problems.add(f"{key}.{names[0]}", 0, f"and {names[1]}: 0 leave nothing to learn; make one of them positive")


def _fit_together(wish: Base, student: Student, teacher_dim: int | None, problems: Problems) -> bool:
    """Whether the student's dimensions fit the teacher's, as far as both are known."""
    width, nested = student.dimension, student.mrl_dimensions
    if nested and teacher_dim and max(nested) > teacher_dim:
        fix = f"goes beyond the teacher's {teacher_dim} dimensions; make it smaller"
        problems.add("base.mrl_dimensions", max(nested), fix)
        return False
    if not wish.use_projection and width and teacher_dim and teacher_dim < width:
        fix = f"the teacher has {teacher_dim} dimensions, fewer than the student's {width}; set use_projection: true"
        problems.add("base.use_projection", False, fix)
        return False
    return True


def _student(wish: Base, fingerprints: Fingerprints, problems: Problems) -> Student | None:
    found = pretrained(wish.student, "base.student", fingerprints, problems)
    if found is None or not _has_what_is_asked(wish, found, problems):
        return None
    width = found.width or wish.student_dim
    everything = found.n_layers and tuple(range(found.n_layers))
    hidden = wish.projection_hidden_dim or (4 * width if width else 3072)
    return Student(
        model=found.identity,
        dimension=width,
        layers=None if wish.layers == everything else wish.layers,
        dropout=None if wish.dropout == found.own_dropout else wish.dropout,
        projection_hidden_dim=hidden if wish.use_projection else None,
        mrl_dimensions=wish.mrl_dimensions and tuple(sorted(set(wish.mrl_dimensions), reverse=True)),
    )


def _has_what_is_asked(wish: Base, found: Pretrained, problems: Problems) -> bool:
    """Whether a student has the dimensions and layers that its settings ask for, as far as they are known."""
    before = len(problems.lines)
    if wish.student_dim and found.width and wish.student_dim != found.width:
        problems.add("base.student_dim", wish.student_dim, f"is not what {wish.student} has; it has {found.width}")
    if wish.layers and len(set(wish.layers)) < len(wish.layers):
        problems.add("base.layers", list(wish.layers), "names a layer twice; name each once")
    if wish.layers and found.n_layers and max(wish.layers) >= found.n_layers:
        fix = f"is not there, {wish.student} has layers 0 to {found.n_layers - 1}"
        problems.add("base.layers", max(wish.layers), fix)
    if wish.mrl_dimensions and found.width and max(wish.mrl_dimensions) > found.width:
        fix = f"goes beyond the student's {found.width} dimensions; make it smaller"
        problems.add("base.mrl_dimensions", max(wish.mrl_dimensions), fix)
    return len(problems.lines) == before


def _joined(values: tuple[int, ...] | None) -> str | None:
    return None if values is None else " ".join(map(str, values))
