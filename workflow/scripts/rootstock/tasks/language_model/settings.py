"""What a user may set for a language model. Light: no torch."""

from typing import Annotated, Literal

from pydantic import Field

from ...study.fields import (
    Count,
    Float,
    Fraction,
    Int,
    Introduced,
    Label,
    Natural,
    NonNegative,
    PathText,
    Positive,
    Section,
    Shares,
    optional,
)
from ...study.spec import Optimisation

Mode = Literal["full_fine_tuning", "last_layers_only", "lora", "cool_down", "base_only"]
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TARGETS: dict[Target, str] = {  # a Llama's names of linear layers, to ours
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "output",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}
SPLITS: tuple[str, ...] = ("train", "val", "test")
GENERAL = "general"  # all text together: the unit of a branch that continues with what the trunk learned from


class Scope(Section):
    """Top-level keys of a language-model study."""

    domains: Annotated[tuple[Label, ...], Field(min_length=1)] | None = Field(
        None, description="what branches are about (default: every domain of the data)"
    )
    export: bool = Field(
        False, description="also write each model as a Hugging Face folder below artifacts/language_model/"
    )
    export_merged: bool = Field(
        False,
        description="with export: lora branches as whole models, not as PEFT adapters beside their trunk",
    )


class Data(Section):
    """Where text comes from: the built-in ontologies, or a folder of files."""

    name: Literal["ontologies"] | None = Field(
        None,
        description="ontologies: definitions of biomedical terms that come with the package cellxgene-ontology-guide (default: ontologies without path)",
    )
    path: PathText | None = Field(
        None,
        description="a folder of your own with .txt (an empty line ends a document), .jsonl (a text field) or .parquet (a text column); a subfolder, or else a file, is a domain",
    )
    domains: Annotated[tuple[Label, ...], Field(min_length=1)] | None = Field(
        None,
        description="which domains the text has (default: all; for ontologies diseases, anatomy, cells, chemicals, factors, qualities)",
    )
    tokenizer: PathText | None = Field(
        None,
        description="a tokenizer.json, or a folder with one or with GPT-2's vocab.json and merges.txt; it is used as it is (default: a byte-level BPE trained on the train part)",
    )
    vocab_size: Annotated[Int, Field(ge=257)] | None = Field(
        None, description="size of the BPE that is trained (default: 4096)"
    )
    split: Shares | None = Field(
        None,
        description="shares of documents for train, val and test; documents that say the same stay in one part (default: [0.9, 0.05, 0.05])",
    )


class Training(Optimisation):
    """Settings that pretraining and fine-tuning share."""

    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: for matrices, with AdamW for the rest")
    lr: Positive = Field(1e-3, description="learning rate at its peak")
    weight_decay: NonNegative = Field(0.1, description="decoupled weight decay of matrices")
    batch_size: Count = Field(32, description="windows of context_length tokens in a step, over all processes")
    max_steps: Count = Field(
        1000,
        description="the budget, obeyed to the step; several with constant and multiples of eval_every are one chain",
    )
    warmup_steps: Natural = Field(50, description="steps over which the learning rate rises from 0")
    schedule: Literal["constant", "wsd", "cosine", "linear"] = Field(
        "constant", description="after warm-up: constant; wsd: constant, then down to 0; cosine or linear down to 0"
    )
    decay_pct: Fraction | None = Field(None, description="share of max_steps over which wsd decays (default: 0.2)")
    gradient_clip: Positive | None = Field(1.0, description="largest norm of the gradient; null does not clip")
    eval_every: Count = Field(250, description="steps between evaluations; the best one's weights are kept")
    eval_tokens: Count = Field(65_536, description="tokens of the val set, at most, that such an evaluation reads")
    early_stopping_patience: Count | None = Field(
        None, description="evaluations without a lower loss before training stops; null never stops early"
    )
    precision: Literal["float32", "bf16", "fp16"] = Field("float32", description="float32, or mixed precision")
    seed: Natural = Field(0, description="seed of initial weights and of the order of the text")
    mask_documents: Annotated[bool, Introduced(False)] = Field(
        False, description="true: a document is read as if it stood alone, attention does not cross its ends"
    )


# The fields that come first among the columns of summary.csv, in this order; the others follow.
FIRST_COLUMNS = (
    "optimizer", "lr", "weight_decay", "batch_size", "max_steps", "warmup_steps", "schedule", "decay_pct", "gradient_clip",
    "eval_every", "eval_tokens", "early_stopping_patience",
)  # fmt: skip
TRAINING_COLUMNS = tuple(dict.fromkeys((*FIRST_COLUMNS, *Training.model_fields)))


class Shape(Section):
    """The shape of a decoder-only transformer with new weights; its vocabulary is the tokenizer's."""

    d_model: Count = Field(384, description="width of the residual stream")
    n_heads: Count = Field(8, description="attention heads; d_model / n_heads must be even")
    n_layers: Count = Field(6, description="transformer blocks")
    d_ff: Count = Field(1536, description="hidden width of the SwiGLU")
    context_length: Annotated[Int, Field(ge=2)] = Field(256, description="tokens the model sees at once")


class RopeScaling(Section):
    """How rotary positions were stretched beyond a model's original context (rope_type llama3)."""

    factor: Positive
    low_freq_factor: Positive
    high_freq_factor: Positive
    original_context: Count


class Model(Shape):
    """A shape with fields that only a model with pretrained weights can have."""

    n_kv_heads: Annotated[Count | None, Introduced(None)] = None  # heads of keys and values; None: one per query head
    head_width: Annotated[Count | None, Introduced(None)] = None  # None: d_model / n_heads
    is_tied: Annotated[bool, Introduced(True)] = True  # whether the embedding is the output layer too
    norm_epsilon: Annotated[Float, Introduced(1e-5)] = 1e-5
    rope_theta: Annotated[Float, Introduced(10_000.0)] = 10_000.0
    rope_scaling: Annotated[RopeScaling | None, Introduced(None)] = None
    longest_context: Annotated[Count | None, Introduced(None)] = None  # that its weights allow; None: context_length

    @property
    def n_key_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def d_head(self) -> int:
        return self.head_width or self.d_model // self.n_heads


class Base(Training, Shape):
    """The trunk: pretrained on all domains, from new weights or from those of an existing model."""

    start_from: PathText | None = Field(
        None,
        description="the folder of a Llama (config.json, model.safetensors, tokenizer.json) whose weights it begins with; all of the shape but context_length is that model's, and data.tokenizer is its tokenizer",
    )
    max_steps: Natural = Field(
        1000,
        description="the budget, obeyed to the step; several with constant and multiples of eval_every are one chain; 0: the model of start_from as it is",
    )


class Branch(Section):
    """Settings that only a fine-tune has."""

    mode: Mode = Field(
        "full_fine_tuning",
        description="full_fine_tuning, last_layers_only or lora, on a domain; cool_down: all text, linear schedule; base_only: the trunk, measured",
    )
    target_data_pct: Fraction = Field(
        1.0, description="share of the domain's training documents, 0.1 is 10 %: seeded, nested, at least one"
    )
    trained_layers: Count | None = Field(
        None, description="how many of the last blocks last_layers_only trains, with the last norm (default: 1)"
    )
    rank: Count | None = Field(None, description="lora: rank of the update of each layer (default: 8)")
    alpha: Positive | None = Field(
        None, description="lora: an update is scaled by alpha / rank (default: twice the rank)"
    )
    targets: Annotated[tuple[Target, ...], Field(min_length=1)] | None = Field(
        None, description="lora: the layers of each block that get an update (default: all seven)"
    )
    seed_finetune: Natural | None = Field(None, description="seed of the branch (default: the base's)")
    branch_at: Count | None = Field(
        None, description="only on trunks of so many max_steps; one of them must have that (default: on every one)"
    )


class Finetune(optional(Training, "null: as the base has it", ("seed",)), Branch):
    """A branch of the trunk. A value that is not given is that of the trunk."""
