"""What a user may set for activity recognition. Light: no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ...study.fields import (
    Count,
    Float,
    Fraction,
    Int,
    Introduced,
    Label,
    Name,
    Natural,
    NonNegative,
    PathText,
    Positive,
    Probability,
    Section,
    Shares,
    optional,
)
from ...study.spec import Optimisation

Mode = Literal[
    "full_fine_tuning", "target_only_fine_tuning", "last_layer_only", "adapters", "prototypes", "normalise",
    "target_only", "base_only",
]  # fmt: skip
BESIDE_OTHERS = (
    "full_fine_tuning",
    "adapters",
    "last_layer_only",
)  # modes that may see windows of the base's people too
GRADIENT_FREE = ("prototypes", "normalise")  # modes that take no step of an optimizer
UPDATES = ("last_layer_only", "adapters", *GRADIENT_FREE)  # modes whose file holds only what changed of the base model
ADAPTER_DEFAULTS = {"rank": 4, "alpha": 8.0}
PROTOTYPE_DEFAULTS = {"prototype_prior": 1.0}
Setting = bool | Int | Float | str


class Scope(Section):
    """Top-level keys of an activity study."""

    participants: Annotated[tuple[Label, ...], Field(min_length=2)] | None = Field(
        None,
        description="who takes part, in the order that folds and n_base_participants count (default: everyone in the data)",
    )
    folds: Literal["all"] | tuple[Natural, ...] = Field(
        "all", description="who is left out and fine-tuned on: positions in participants, from 0"
    )
    models: dict[Name, dict[str, Setting]] = Field(
        {},
        description="presets of your own: {name: {preset: test, base_channels: 32}}, or {name: {class: package.module:Class, width: 4}}",
    )
    baselines: tuple[Literal["extra_trees", "svc"], ...] = Field(
        (), description="classical models to measure on the same splits (default: none)"
    )


class Data(Section):
    """Where windows come from: the built-in smartwatch recordings, or a folder of tensors."""

    name: Literal["smartwatch"] | None = Field(
        None,
        description="smartwatch: the recordings that come with the package seglearn (default: smartwatch without path)",
    )
    path: PathText | None = Field(
        None,
        description="a folder of your own with {participant}_{train,val,test}.pt, each (X float32 [N, channels, samples], y [N])",
    )
    window_size: Count | None = Field(
        None, description="samples in a window; for a folder: what its windows must have (default: 200 for smartwatch)"
    )
    window_stride: Count | None = Field(
        None, description="smartwatch only: samples between the starts of windows (default: 100)"
    )
    split: Shares | None = Field(
        None,
        description="smartwatch only: shares of each recording for train, val and test, in time order; no window crosses a boundary (default: [0.6, 0.2, 0.2]; by recording [0.6, 0.15, 0.25])",
    )
    split_by: Literal["time", "recording"] | None = Field(
        None,
        description="recording: fine-tune on some recordings of a person (finetune.adapt_on), test on all windows of their others; a folder's files then hold (X, y, recording) (default: time, inside every recording)",
    )
    pad: bool | None = Field(
        None,
        description="smartwatch only: zero-pad a part that is shorter than a window instead of refusing it (default: false)",
    )
    mirror: bool | None = Field(
        None, description="smartwatch only: mirror left-arm recordings onto the right arm (default: false)"
    )
    n_classes: Annotated[Int, Field(ge=2)] | None = Field(
        None,
        description="with path only: classes of a folder with int64 labels (default: the largest label of the base data + 1)",
    )


class Augmentation(Section):
    """Random changes to training windows, drawn anew for each sample and epoch."""

    use_augmentation: bool = Field(
        False, description="augment training windows; without it the keys of augmentation have no effect"
    )
    aug_prob: Probability | None = Field(None, description="probability of each change, per window (default: 0.5)")
    jitter_std: NonNegative | None = Field(
        None, description="noise added to each value, in standard deviations of its channel (default: 0.05)"
    )
    magnitude_range: tuple[Positive, Positive] | None = Field(
        None, description="a window is scaled by a factor drawn from [low, high] (default: [0.8, 1.2])"
    )
    time_warp: Annotated[Float, Field(ge=0, lt=1)] | None = Field(
        None, description="largest local change of speed, 0.2 is 20 % (default: 0.2)"
    )
    rotation_std: NonNegative | None = Field(
        None,
        description="spread of a random rotation of the axes, radians about each; needs channels in threes (default: 0.2 for smartwatch, 0 for a folder)",
    )
    mixup_alpha: NonNegative | None = Field(
        None, description="mixup of windows and labels, weight from Beta(alpha, alpha); 0 does not mix (default: 0)"
    )


AUGMENTATION_DEFAULTS = {
    "aug_prob": 0.5,
    "jitter_std": 0.05,
    "magnitude_range": (0.8, 1.2),
    "time_warp": 0.2,
    "rotation_std": 0.2,
    "mixup_alpha": 0.0,
}


class Training(Augmentation, Optimisation):
    """What base training and fine-tuning have in common."""

    max_epochs: Count = Field(100, description="passes over the training data at most")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant", description="learning rate over the steps of max_epochs"
    )
    early_stopping_patience: Count | None = Field(
        None, description="epochs without a strictly better value before training stops; null never stops early"
    )
    early_stopping_metric: Literal["loss", "f1", "last"] = Field(
        "loss",
        description="what chooses the best epoch, on a set that does not train; last: nothing, the last epoch is kept and that set trains too",
    )
    precision: Annotated[Literal["float32", "bf16", "fp16"], Introduced("float32")] = Field(
        "float32", description="float32, or mixed precision: bf16, or fp16 with loss scaling"
    )
    label_smoothing: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a label spread over all classes"
    )
    pos_weight: Positive | None = Field(None, description="weight of the positive class; binary data only (default: 1)")


# The order of their columns in summary.csv; what is not named here follows.
FIRST_COLUMNS = (
    "lr", "weight_decay", "batch_size", "max_epochs", "schedule", "gradient_clip", "early_stopping_patience",
    "early_stopping_metric", "precision", "seed",
)  # fmt: skip
TRAINING_COLUMNS = tuple(dict.fromkeys((*FIRST_COLUMNS, *Training.model_fields)))


class Base(Training):
    """Base training: on other people than the target."""

    model: str = Field(
        "test", description="a preset (test, medium, pooled), a name under models, or package.module:Class"
    )
    dropout: Annotated[Float, Field(ge=0, lt=1)] | None = Field(
        None, description="dropout of the model, where it has such a setting (default: the preset's)"
    )
    base_channels: Count | None = Field(
        None, description="width of the model, where it has such a setting (default: the preset's)"
    )
    num_blocks: Count | None = Field(
        None, description="depth of the model, where it has such a setting (default: the preset's)"
    )
    use_dilation: bool | None = Field(None, description="dilate convolutions 1, 2, 4, … (default: the preset's)")
    use_residual: bool | None = Field(None, description="add each block's input to its output (default: the preset's)")
    participants: Literal["others", "all"] | Annotated[tuple[Label, ...], Field(min_length=1)] = Field(
        "others",
        description="others: all but the target; all: everyone, the target too, which the plan says; or a list without the target",
    )
    n_base_participants: Literal["all"] | Count = Field(
        "all", description="only the first n of the base participants, in the order listed"
    )
    parent: dict[str, Any] | None = Field(
        None,
        description="an earlier stage to start from: base settings; what it does not give is as in this stage; stages may have parents in turn",
    )


OVERRIDES = ("dropout", "base_channels", "num_blocks", "use_dilation", "use_residual")


class Personal(Section):
    """What only a fine-tune has."""

    mode: Mode = Field(
        "full_fine_tuning",
        description="full_fine_tuning: base and target data; target_only_fine_tuning; last_layer_only; adapters: low-rank updates of every convolution and linear layer; prototypes: nearest class mean in the base's last features, no gradient; normalise: only input statistics and BatchNorm's, from windows without labels; target_only: from scratch, without a base; base_only: no training, the base measured on the target",
    )
    target_data_pct: Fraction = Field(
        1.0,
        description="share of the target's training windows, 0.1 is 10 %: stratified, seeded, nested (10 % is part of 25 %), at least one window",
    )
    target_batch_pct: Annotated[Float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="share of target windows in every batch, the rest are of the base's people; an epoch is one pass over theirs; for full_fine_tuning, adapters and last_layer_only (default: full_fine_tuning takes batches as they come, the others the target's windows alone)",
    )
    adapt_on: Label | None = Field(
        None,
        description="with data.split_by: recording: the recordings of the target that it learns from, joined by +; smartwatch: left or right arm, a folder: their numbers, as 0+2; a list tries each",
    )
    target_shots: Count | None = Field(
        None,
        description="in place of target_data_pct: so many of the target's training windows of each class, seeded, nested (1 is part of 2); a class that has fewer is told",
    )
    rank: Count | None = Field(None, description="adapters only: rank of each update (default: 4)")
    alpha: Positive | None = Field(None, description="adapters only: an update counts alpha / rank (default: 8)")
    prototype_prior: NonNegative | None = Field(
        None,
        description="prototypes only: as how many windows of the target the others' class mean counts; 0 takes the target's own alone, where it has the class (default: 1)",
    )
    base_share: Annotated[Float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="share of the base model's weights in the result: 0.5 is the mean of both (WiSE-FT), 0 the fine-tune alone; for modes that take steps from a base model",
    )
    keep_base_if_worse: bool = Field(
        False,
        description="keep the base model where the fine-tune gets no more of the target's val set right, or as many with no lower loss",
    )
    seed_finetune: Natural | None = Field(None, description="seed of the fine-tune (default: the base's)")
    early_stopping_patience_target: Count | None = Field(
        None, description="patience of the fine-tune (default: the base's)"
    )
    freeze_batch_norm: bool = Field(True, description="keep the base's running statistics in BatchNorm layers")


class Finetune(optional(Training, "null: as the base has it", ("seed", "early_stopping_patience")), Personal):
    """Fine-tuning on the target. A value not given is the base's."""
