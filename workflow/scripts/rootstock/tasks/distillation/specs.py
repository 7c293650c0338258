"""The resolved specs of distillation: all that determines a training, and nothing else. Light: no torch."""

from typing import Annotated, Any, Literal

from pydantic import model_validator

from ...study import spec
from ...study.fields import Float, Introduced, Section, Whereabouts, never_null, optional
from ...study.spec import Course
from .settings import Mode, Training


class ModelIdentity(Section):
    """A pretrained model: one of a pinned package by version, one in a folder by content, else a name on the hub."""

    name: str | None = None
    version: str | None = None
    content: str | None = None
    folder: Annotated[str | None, Whereabouts()] = None

    @property
    def known_as(self) -> str:
        """Its name in messages and folder names."""
        return self.name or self.folder or "a model in a folder"

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, given: Any) -> Any:
        """Read older specs too, which hold a folder's path as `name`."""
        if isinstance(given, dict) and given.get("content") and given.get("name"):
            return {"content": given["content"], "folder": given["name"]}
        return given


class TextIdentity(Section):
    """Which text, and how it is split."""

    recipe: int
    name: str
    version: str | None = None
    ontologies: tuple[str, ...] | None = None
    content: str | None = None
    max_queries: int | None = None
    split: tuple[float, ...]
    seed: int


class TeacherIdentity(Section):
    """Which vectors: a teacher's, of a text cut at max_length."""

    recipe: int
    model: ModelIdentity
    dimension: int | None = None
    max_length: int
    precision: str


class DataIdentity(Section):
    """All that a training reads."""

    text: TextIdentity
    teacher: TeacherIdentity


class PreparedSpec(Section):
    """What to prepare: a text or, with `teacher`, the teacher's vectors of it. Where the inputs lie is not part of its
    identity."""

    task: Literal["distillation"] = "distillation"
    text: TextIdentity
    path: Annotated[str | None, Whereabouts()] = None  # of the user's own pairs
    teacher: TeacherIdentity | None = None


class Student(Section):
    """An architecture, resolved."""

    model: ModelIdentity
    dimension: int | None = None
    layers: tuple[int, ...] | None = None
    dropout: float | None = None
    projection_hidden_dim: int | None = None  # with a projection
    mrl_dimensions: tuple[int, ...] | None = None  # without


def _course(training: Training) -> Course:
    return Course(epochs=training.max_epochs, schedule="linear", warmup_steps=training.warmup_steps)


class BaseSpec(Training, spec.BaseSpec):
    """All that determines the weights of a phase-1 model."""

    task: Literal["distillation"] = "distillation"
    data: DataIdentity
    student: Student
    freeze_word_embeddings: bool
    use_projection: bool
    mse_weight: float
    cosine_weight: float
    retrieval_weight: Annotated[Float, Introduced(0.0)] = 0.0
    max_samples_per_dataset: int | None = None

    def course(self) -> Course:
        return _course(self)


class Retrieving(Section):
    """Fields that only phase 2 has."""

    infonce_weight: float
    mse_weight: float
    temperature: float
    num_negatives: int
    in_batch_negatives: bool
    max_samples: int | None


LORA = ("rank", "alpha")  # fields that only mode lora has


def _complete(phase2: "FinetuneSpec") -> "FinetuneSpec":
    spec.require(phase2, "base", *((*never_null(Training), *never_null(Retrieving)) if phase2.trains else ()))
    spec.require(phase2, *(LORA if phase2.is_update else ()), unused=() if phase2.is_update else LORA)
    return phase2


class FinetuneSpec(
    optional(Training, "null: not used by the mode"),
    optional(Retrieving, "null: not used by the mode"),
    spec.FinetuneSpec,
):
    """All that determines a phase-2 model; fields that its mode does not use are None."""

    _whole = model_validator(mode="after")(_complete)

    task: Literal["distillation"] = "distillation"
    data: DataIdentity
    mode: Mode
    teacher_negatives: Annotated[Literal[True] | None, Introduced(None)] = None
    topic_batches: Annotated[Literal[True] | None, Introduced(None)] = None
    rank: Annotated[int | None, Introduced(None)] = None
    alpha: Annotated[Float | None, Introduced(None)] = None

    @property
    def is_update(self) -> bool:
        return self.mode == "lora"

    def course(self) -> Course:
        return _course(self)


class BaselineSpec(Section):
    """What a student is compared with: the teacher's own scores on this text, and both models' speed."""

    task: Literal["distillation"] = "distillation"
    recipe: int
    data: DataIdentity
    student: Student
    use_projection: bool
    max_length: int
