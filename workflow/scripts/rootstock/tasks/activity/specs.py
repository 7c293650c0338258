"""The resolved specs of activity recognition: all that determines a training, and nothing else. Light: no torch."""

from typing import Annotated, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from ...study import spec
from ...study.fields import Float, Introduced, Section, never_null, optional
from ...study.spec import Course
from .settings import (
    ADAPTER_DEFAULTS,
    AUGMENTATION_DEFAULTS,
    GRADIENT_FREE,
    PROTOTYPE_DEFAULTS,
    UPDATES,
    Mode,
    Setting,
    Training,
)


class DataIdentity(Section):
    """The data that a training reads: a built-in set by name, version and preparation, a folder by its content."""

    name: str
    version: str | None = None
    window_size: int | None = None
    window_stride: int | None = None
    split: tuple[float, ...] | None = None
    pad: bool | None = None
    mirror: bool | None = None
    n_classes: int | None = None
    content: str | None = None
    split_by: Annotated[Literal["recording"] | None, Introduced(None)] = None  # None: by time


class Model(Section):
    """An architecture, resolved: every constructor argument filled in; a user's own class with the hash of its code."""

    architecture: str
    settings: dict[str, Setting]
    source: str | None = None

    @property
    def own_class(self) -> str | None:
        return self.architecture if ":" in self.architecture else None


def _resolved(spec: Training) -> Training:
    """A spec given by hand must be as the plan makes it, or one training would have two names."""
    people = getattr(spec, "participants", ())
    if list(people) != sorted(set(people)):
        raise PydanticCustomError("phrase", "participants sorted, each once")
    given = {name for name in AUGMENTATION_DEFAULTS if getattr(spec, name) is not None}
    if given != (set(AUGMENTATION_DEFAULTS) if spec.use_augmentation else set()):
        raise PydanticCustomError("phrase", "all augmentation settings with use_augmentation, none without")
    return spec


def _course(training: Training) -> Course:
    return Course(
        epochs=training.max_epochs,
        schedule=training.schedule,
        metric=training.early_stopping_metric,
        patience=training.early_stopping_patience,
        keeps_end=training.schedule == "constant",
    )


class BaseSpec(Training, spec.BaseSpec):
    """All that determines the weights of a base model."""

    _check = model_validator(mode="after")(_resolved)

    @property
    def trains_on_all(self) -> bool:
        """Whether the set that would choose the epoch trains too."""
        return self.early_stopping_metric == "last"

    task: Literal["activity"] = "activity"
    data: DataIdentity
    participants: tuple[str, ...]
    model: Model

    @property
    def own_class(self) -> str | None:
        return self.model.own_class

    def course(self) -> Course:
        return _course(self)


def _complete(finetune: "FinetuneSpec") -> "FinetuneSpec":
    start, other = ("model", "base") if finetune.mode == "target_only" else ("base", "model")
    spec.require(finetune, start, unused=(other,))
    if finetune.trains:
        spec.require(finetune, *(() if finetune.mode in GRADIENT_FREE else never_null(Training)))
        amount, other = (
            ("target_shots", "target_data_pct") if finetune.target_shots else ("target_data_pct", "target_shots")
        )
        spec.require(finetune, amount, unused=(other,))
    for mode, own in (("adapters", ADAPTER_DEFAULTS), ("prototypes", PROTOTYPE_DEFAULTS)):
        spec.require(
            finetune, *(own if finetune.mode == mode else ()), unused=() if finetune.mode == mode else tuple(own)
        )
    return finetune


class FinetuneSpec(optional(Training, "null: not used by the mode"), spec.FinetuneSpec):
    """All that determines a fine-tuned model; fields that its mode does not use are None."""

    _check = model_validator(mode="after")(_resolved)
    _whole = model_validator(mode="after")(_complete)

    task: Literal["activity"] = "activity"
    data: DataIdentity
    target: str
    mode: Mode
    target_data_pct: float | None = None
    target_batch_pct: float | None = None
    adapt_on: Annotated[tuple[int, ...] | None, Introduced(None)] = None  # recordings; it is tested on the others
    freeze_batch_norm: bool | None = None
    target_shots: Annotated[int | None, Introduced(None)] = None
    rank: Annotated[int | None, Introduced(None)] = None
    alpha: Annotated[Float | None, Introduced(None)] = None
    prototype_prior: Annotated[Float | None, Introduced(None)] = None
    base_share: Annotated[Float, Introduced(0.0)] = 0.0
    keep_base_if_worse: Annotated[bool, Introduced(False)] = False
    model: Model | None = None  # for a training from scratch; else the base's

    @property
    def own_class(self) -> str | None:
        return self.model and self.model.own_class

    @property
    def is_update(self) -> bool:
        return self.mode in UPDATES

    @property
    def trains_on_all(self) -> bool:
        return self.early_stopping_metric == "last"

    def course(self) -> Course:
        return _course(self)


class BaselineSpec(Section):
    """All that determines a classical model's results on one target."""

    task: Literal["activity"] = "activity"
    recipe: int
    method: str
    data: DataIdentity
    participants: tuple[str, ...]
    target: str
    fractions: tuple[float, ...]
    shots: Annotated[tuple[int, ...], Introduced(())] = ()
    adapt_on: Annotated[tuple[int, ...] | None, Introduced(None)] = None
    seed: int
