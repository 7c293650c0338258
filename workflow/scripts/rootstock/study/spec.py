"""What the specs of all tasks share. A spec is all that determines the weights of one training, and nothing else."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from .fields import Count, Introduced, Natural, NonNegative, Positive, Section, optional

BASE_ONLY = "base_only"  # the mode that trains nothing: the base model, measured

T = TypeVar("T", bound="TrainingSpec")


@dataclass(frozen=True)
class Course:
    """The course of a training from its first step to its last, as the spec sets it and the engine follows it."""

    epochs: int  # at most; an epoch is what lies between two evaluations
    word: Literal["epoch", "evaluation"] = "epoch"  # what users call an epoch
    steps: int | None = None  # at most; None: those of all epochs
    optimizer: Literal["adamw", "muon"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    decay_vectors: bool = True  # whether weight decay applies to vectors too, not only to matrices
    schedule: str = "constant"
    warmup_steps: int = 0
    decay_pct: float | None = None  # share of the steps over which schedule wsd decays
    metric: str = "loss"  # what chooses the best epoch; last: the last epoch is kept
    patience: int | None = None  # epochs without improvement before training stops; None: it never stops early
    keeps_end: bool = False  # whether the end state of a base training is kept, for a longer one to continue

    @property
    def watched(self) -> str:
        """What is measured after each epoch; if the last epoch is kept, only to see whether it is a number."""
        return "loss" if self.metric == "last" else self.metric


class Optimisation(Section):
    """Settings that every task has. Each changes weights, so each is part of a spec."""

    lr: Positive = Field(1e-3, description="learning rate of AdamW; the peak where there is a schedule")
    weight_decay: NonNegative = Field(0.01, description="decoupled weight decay of AdamW")
    batch_size: Count = Field(64, description="samples in a step, over all processes")
    gradient_clip: Positive | None = Field(None, description="largest norm of the gradient; null does not clip")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="float32, or mixed precision: bf16, or fp16 with loss scaling"
    )
    seed: Natural = Field(0, description="seed of initial weights, data order, dropout and augmentation")


class TrainingSpec(Optimisation):
    """A base training or a fine-tune. A task's own specs add its settings and name the task."""

    kind: ClassVar[Literal["base", "fine-tune"]]

    task: str
    recipe: int  # of the task, see `Task.recipe`
    data: Section

    @property
    def starts_from(self) -> str | None:
        """Hash of the base model whose weights it starts from; None if it starts from no base model."""
        return None

    @property
    def own_class(self) -> str | None:
        """The user's own class that it names for its network, as `package.module:Class`; None if the task's own code
        builds the network. `study.own` imports the class, and only if the user named it."""
        return None

    @abstractmethod
    def course(self) -> Course:
        """How it is trained. The engine's loop asks once, and only a spec that trains."""


def renewed(spec: T, **changes: Any) -> T:
    """A spec with some fields changed, validated again; the same object if none changes."""
    if all(getattr(spec, name) == value for name, value in changes.items()):
        return spec
    return type(spec).model_validate(dict(spec) | changes)


def require(spec: "FinetuneSpec", *needed: str, unused: tuple[str, ...] = ()) -> None:
    """Reject a fine-tune that lacks what its mode needs or has what it does not use. No plan makes one, but people
    write specs by hand."""
    for names, is_wrong, verb in (
        (needed, lambda value: value is None, "needs"),
        (unused, lambda value: value is not None, "has no"),
    ):
        if found := [name for name in names if is_wrong(getattr(spec, name))]:
            context = {"mode": spec.mode, "verb": verb, "names": ", ".join(found)}
            raise PydanticCustomError("phrase", "mode {mode} {verb} {names}", context)


class BaseSpec(TrainingSpec):
    """All that determines the weights of a base model."""

    kind = "base"

    parent: Annotated[str | None, Introduced(None)] = None  # hash of the stage before, where there is one

    @property
    def starts_from(self) -> str | None:
        return self.parent


class FinetuneSpec(optional(TrainingSpec, "null: not used by the mode", ("task", "recipe", "data"), TrainingSpec)):
    """All that determines a fine-tuned model; what its mode does not use is None."""

    kind = "fine-tune"

    base: str | None = None  # hash of its base model; None: trained from scratch
    mode: str

    @property
    def starts_from(self) -> str | None:
        return self.base

    @property
    def trains(self) -> bool:
        """Whether it trains at all, rather than only measuring a base model."""
        return self.mode != BASE_ONLY

    @property
    def is_update(self) -> bool:
        """Whether its model file holds only its changes to the base model's weights."""
        return False
