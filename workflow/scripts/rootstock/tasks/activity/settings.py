"""What a user may set for activity recognition, and the resolved specs it becomes. Light: no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ...study.fields import (
    Count,
    Float,
    Fraction,
    Int,
    Introduced,
    Name,
    Natural,
    NonNegative,
    Positive,
    Probability,
    Section,
    inheriting,
)
from ...study.optimisation import Optimisation

Mode = Literal["full_fine_tuning", "target_only_fine_tuning", "last_layer_only", "target_only", "base_only"]
Setting = bool | Int | Float | str


class Scope(Section):
    """Top-level keys of an activity study."""

    participants: Annotated[tuple[Name, ...], Field(min_length=2)] | None = Field(
        None,
        description="who takes part, in the order that folds and n_base_participants count; null: everyone in the data",
    )
    folds: Literal["all"] | tuple[Natural, ...] = Field(
        "all", description="which participants are left out and fine-tuned on, as positions in participants"
    )
    models: dict[Name, dict[str, Setting]] = Field(
        {},
        description="presets of your own: {name: {preset: test, base_channels: 32}} or {name: {class: package.module:Class}}",
    )
    baselines: tuple[Literal["extra_trees", "svc"], ...] = Field(
        (), description="classical models to measure on the same splits"
    )


class Data(Section):
    """Where windows come from: the built-in smartwatch recordings, or a folder of tensors."""

    name: Literal["smartwatch"] | None = Field(None, description="a data set that is built in")
    path: str | None = Field(None, description="a folder with {participant}_{train,val,test}.pt")
    window_size: Count | None = Field(None, description="samples in a window; for a folder, what its windows must have")
    window_stride: Count | None = Field(None, description="samples between the starts of windows")
    split: tuple[Fraction, Fraction, Fraction] | None = Field(
        None, description="shares of each recording for train, val and test, in time order"
    )
    pad: bool | None = Field(None, description="zero-pad a part that is shorter than a window instead of refusing it")
    mirror: bool | None = Field(None, description="mirror left-arm recordings onto the right arm")
    n_classes: Annotated[Int, Field(ge=2)] | None = Field(
        None, description="classes of a folder with int64 labels; null: the largest label of the base data + 1"
    )


class Augmentation(Section):
    """Random changes to training windows, drawn anew for each sample and epoch."""

    use_augmentation: bool = Field(False, description="augment training windows")
    aug_prob: Probability | None = Field(None, description="probability of each change, per window (default 0.5)")
    jitter_std: NonNegative | None = Field(
        None, description="noise added to each value, in standard deviations of its channel (default 0.05)"
    )
    magnitude_range: tuple[Positive, Positive] | None = Field(
        None, description="a window is scaled by a factor drawn from [low, high] (default [0.8, 1.2])"
    )
    time_warp: Annotated[Float, Field(ge=0, lt=1)] | None = Field(
        None, description="largest local change of speed, 0.2 is 20 % (default 0.2)"
    )
    rotation_std: NonNegative | None = Field(
        None,
        description="spread of a random rotation of the axes, radians about each (default 0.2 for smartwatch, 0 for a folder)",
    )
    mixup_alpha: NonNegative | None = Field(
        None, description="mixup of windows and labels, weight from Beta(alpha, alpha); 0 does not mix (default 0)"
    )


AUGMENTATION_DEFAULTS = {
    "aug_prob": 0.5,
    "jitter_std": 0.05,
    "magnitude_range": (0.8, 1.2),
    "time_warp": 0.2,
    "rotation_std": 0.2,
    "mixup_alpha": 0.0,
}


class Training(Optimisation, Augmentation):
    """What base training and fine-tuning have in common."""

    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a label spread over all classes"
    )
    pos_weight: Positive | None = Field(None, description="weight of the positive class; binary data only")


class Base(Training):
    """Base training: on other people than the target."""

    model: str = Field("test", description="a preset, one of models, or package.module:Class")
    dropout: Annotated[Float, Field(ge=0, lt=1)] | None = Field(None, description="overrides the preset's dropout")
    base_channels: Count | None = Field(None, description="overrides the preset's width")
    num_blocks: Count | None = Field(None, description="overrides the preset's depth")
    use_dilation: bool | None = Field(None, description="dilate convolutions 1, 2, 4, …")
    use_residual: bool | None = Field(None, description="add each block's input to its output")
    participants: Literal["others", "all"] | Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        "others", description="others: all but the target; all: everyone, the target too; or a list"
    )
    n_base_participants: Literal["all"] | Count = Field(
        "all", description="only the first n of the base participants, in the order listed"
    )
    parent: dict[str, Any] | None = Field(
        None, description="an earlier stage to start from: base settings; what it does not give is as in this stage"
    )


OVERRIDES = ("dropout", "base_channels", "num_blocks", "use_dilation", "use_residual")


class Personal(Section):
    """What only a fine-tune has."""

    mode: Mode = Field("full_fine_tuning", description="which data and which layers are trained")
    target_data_pct: Fraction = Field(1.0, description="share of the target's training windows, 0.1 is 10 %")
    target_batch_pct: Annotated[Float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of target windows in every batch; full_fine_tuning only"
    )
    seed_finetune: Natural | None = Field(None, description="null: the base's seed")
    early_stopping_patience_target: Count | None = Field(None, description="null: the base's early_stopping_patience")
    freeze_batch_norm: bool = Field(True, description="keep the base's running statistics in BatchNorm layers")


_Inherited = inheriting("Inherited", Training, "null: as the base has it", without=("seed", "early_stopping_patience"))


class Finetune(_Inherited, Personal):
    """Fine-tuning on the target. A value not given is the base's."""


class DataIdentity(Section):
    """What data a training read: a built-in set by name, version and preparation, a folder by its content."""

    name: str
    version: str | None = None
    window_size: int | None = None
    window_stride: int | None = None
    split: tuple[float, ...] | None = None
    pad: bool | None = None
    mirror: bool | None = None
    n_classes: int | None = None
    content: str | None = None


class Model(Section):
    """An architecture, resolved: every constructor argument filled in; a user's own class with the hash of its source."""

    architecture: str
    settings: dict[str, Setting]
    source: str | None = None


def _resolved(spec: Section) -> Section:
    """A spec given by hand must be as the plan makes it, or one training would have two names."""
    people = getattr(spec, "participants", ())
    if list(people) != sorted(set(people)):
        raise PydanticCustomError("phrase", "participants sorted, each once")
    given = {name for name in AUGMENTATION_DEFAULTS if getattr(spec, name) is not None}
    if given != (set(AUGMENTATION_DEFAULTS) if spec.use_augmentation else set()):
        raise PydanticCustomError("phrase", "all augmentation settings with use_augmentation, none without")
    return spec


class BaseSpec(Training):
    """All that determines the weights of a base model."""

    _check = model_validator(mode="after")(_resolved)

    task: Literal["activity"] = "activity"
    recipe: int
    data: DataIdentity
    participants: tuple[str, ...]
    model: Model
    parent: Annotated[str | None, Introduced(None)] = None  # hash of the stage before


class FinetuneSpec(inheriting("OptionalTraining", Training, "null: not used by the mode")):
    """All that determines a fine-tuned model; fields that its mode does not use are None."""

    _check = model_validator(mode="after")(_resolved)

    task: Literal["activity"] = "activity"
    recipe: int
    base: str | None = None
    data: DataIdentity
    target: str
    mode: Mode
    target_data_pct: float | None = None
    target_batch_pct: float | None = None
    freeze_batch_norm: bool | None = None
    model: Model | None = None


class BaselineSpec(Section):
    """All that determines a classical model's results on one target."""

    task: Literal["activity"] = "activity"
    recipe: int
    method: str
    data: DataIdentity
    participants: tuple[str, ...]
    target: str
    fractions: tuple[float, ...]
    seed: int
