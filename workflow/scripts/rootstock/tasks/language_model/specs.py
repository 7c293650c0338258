"""The resolved specs of language models: all that determines a training, and nothing else. Light: no torch."""

from typing import Annotated, Literal

from pydantic import model_validator

from ...study import spec
from ...study.fields import Float, Introduced, Natural, Section, Whereabouts, never_null, optional
from ...study.spec import Course
from .settings import Mode, Model, Target, Training

BETAS = (0.9, 0.95)  # a shorter memory of squared gradients than AdamW's default: usual where batches are noisy


LORA = ("rank", "alpha", "targets")  # fields that only mode lora has


class TextIdentity(Section):
    """What text a training read and how it was tokenised: built-in text by version, a folder by its content."""

    name: str
    version: str | None = None
    domains: tuple[str, ...]
    content: dict[str, str] | None = None  # domain to fingerprint
    tokenizer: str | None = None  # fingerprint of a tokenizer that was given
    vocab_size: int | None = None  # of one that is trained
    split: tuple[float, float, float]


class PreparedSpec(TextIdentity):
    """A text's identity, and where its files lie now."""

    path: str | None = None
    tokenizer_path: str | None = None


class ResumedFrom(Section):
    """Where a training with changed settings began: in the middle of another one."""

    hash: str  # of the training that it continues
    step: int
    samples: int  # windows seen until then
    epoch: int  # of the engine's loop: the stretch between two evaluations
    batch: int  # steps of that stretch that were done


NOT_RESUMED = ResumedFrom(hash="", step=0, samples=0, epoch=1, batch=0)


class Pretrained(Section):
    """The model whose weights a trunk starts from, by the content of its folder."""

    content: str
    folder: Annotated[str | None, Whereabouts()] = None


class BaseSpec(Training, spec.BaseSpec):
    """All that determines the weights of a trunk."""

    task: Literal["language_model"] = "language_model"
    data: TextIdentity
    model: Model
    max_steps: Natural
    start_from: Annotated[Pretrained | None, Introduced(None)] = None
    resumed_from: Annotated[ResumedFrom | None, Introduced(None)] = None

    def course(self) -> Course:
        return _course(self, self.resumed_from)


def _complete(branch: "FinetuneSpec") -> "FinetuneSpec":
    spec.require(branch, "base", *(never_null(Training) if branch.trains else ()))
    if branch.mode == "cool_down":
        spec.require(branch, unused=("domain", "target_data_pct"))
    elif branch.trains:
        spec.require(branch, "domain", "target_data_pct")
    if branch.mode == "last_layers_only":
        spec.require(branch, "trained_layers")
    if branch.mode == "lora":
        spec.require(branch, *LORA)
    else:
        spec.require(branch, unused=LORA)
    return branch


class FinetuneSpec(optional(Training, "null: not used by the mode"), spec.FinetuneSpec):
    """All that determines a branch; fields that its mode does not use are None."""

    _whole = model_validator(mode="after")(_complete)

    task: Literal["language_model"] = "language_model"
    data: TextIdentity
    model: Model
    mode: Mode
    domain: str | None = None  # None: the trunk's own text
    target_data_pct: Float | None = None
    trained_layers: int | None = None
    rank: Annotated[int | None, Introduced(None)] = None
    alpha: Annotated[Float | None, Introduced(None)] = None
    targets: Annotated[tuple[Target, ...] | None, Introduced(None)] = None
    mask_documents: Annotated[bool, Introduced(False)] = False
    resumed_from: Annotated[ResumedFrom | None, Introduced(None)] = None

    @property
    def is_update(self) -> bool:
        return self.mode == "lora"

    def course(self) -> Course:
        return _course(self, self.resumed_from)


def _course(training: Training, resumed_from: ResumedFrom | None) -> Course:
    """An epoch is a stretch of `eval_every` steps; the last one, at `max_steps`, may be shorter."""
    begun = resumed_from or NOT_RESUMED
    first = begun.step - begun.batch
    return Course(
        word="evaluation",
        epochs=begun.epoch - 1 + -(-(training.max_steps - first) // training.eval_every),
        steps=training.max_steps,
        optimizer=training.optimizer,
        betas=BETAS,
        decay_vectors=False,
        schedule=training.schedule,
        warmup_steps=max(training.warmup_steps, 1),
        decay_pct=training.decay_pct,
        patience=training.early_stopping_patience,
        keeps_end=True,
    )


def seen_until(spec: BaseSpec | FinetuneSpec, epoch: int) -> tuple[int, int]:
    """Steps and windows of text until the end of an epoch of the engine's loop, which is a stretch of steps."""
    begun = spec.resumed_from or NOT_RESUMED
    first = begun.step - begun.batch
    step = min(first + (epoch - begun.epoch + 1) * spec.eval_every, spec.max_steps)
    return step, begun.samples + (step - begun.step) * spec.batch_size
