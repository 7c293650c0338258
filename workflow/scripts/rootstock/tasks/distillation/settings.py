"""What a user may set for distillation. Light: no torch."""

from typing import Annotated, Literal

from pydantic import Field

from ...study.fields import (
    Count,
    Float,
    Int,
    Name,
    Natural,
    NonNegative,
    PathText,
    Positive,
    Section,
    Shares,
    optional,
)
from ...study.spec import Optimisation
from .phases import in_their_words

Ontology = Literal["mondo", "uberon", "cl", "efo", "pato"]
Precision = Literal["float32", "bf16", "fp16"]
Mode = Literal["phase2", "lora", "base_only"]
MOST_NEGATIVES = 64  # mined for each query; a training uses the nearest `num_negatives` of them


class Scope(Section):
    """Top-level keys of a distillation study."""

    save_to_artifacts: bool = Field(
        False, description="write each fine-tune as a sentence-transformers folder, artifacts/{model}-{config}-{hash}"
    )
    artifacts_dir: PathText = Field("artifacts", description="folder of these, in the project")
    artifact_hash: bool = Field(
        True, description="end the name with the setting's short hash; false suits a study of one setting"
    )
    artifact_config: Name | None = Field(None, description="the {config} in that name")
    two_phases: bool = Field(
        False, description="set of a file with phase1 and phase2: what is wrong is told in the keys of that file"
    )

    def words(self, line: str) -> str:
        """Return a fault in the keys of the file that the user wrote."""
        return in_their_words(line) if self.two_phases else line


class Data(Section):
    """The text, and the teacher whose vectors of it are learned."""

    name: Literal["ontologies"] | None = Field(
        None, description="ontologies: name or synonym of a term, and its definition (default: ontologies without path)"
    )
    path: PathText | None = Field(
        None,
        description="your own pairs: a .jsonl or .parquet with query, positive and perhaps negatives (a list); or a folder of such files, each a data set",
    )
    ontologies: Annotated[tuple[Ontology, ...], Field(min_length=1)] | None = Field(
        None, description="which of them (default: all five)"
    )
    max_queries: Count | None = Field(
        None, description="queries of one passage at most, a term's label first (default: 3 for ontologies, else all)"
    )
    split: Shares | None = Field(
        None,
        description="shares of the passages for train, val and test; near-duplicates and passages with a query in common stay together (default: [0.83, 0.03, 0.14])",
    )
    split_seed: Natural = Field(0, description="which passages fall into which share")
    teacher: PathText = Field("all-MiniLM-L6-v2", description="a sentence-transformers model: a name or a folder")
    teacher_dim: Count | None = Field(None, description="its dimensions, checked where given")
    teacher_max_length: Annotated[Int, Field(ge=8)] = Field(128, description="tokens of a text that the teacher sees")
    teacher_precision: Precision = Field("float32", description="in which it computes")


class Training(Optimisation):
    """Settings that both phases share."""

    lr: Positive = Field(
        1e-4, description="peak learning rate of AdamW, after a linear warmup and before a linear decay"
    )
    warmup_steps: Natural = Field(0, description="steps of linear warmup; the decay takes the rest of the run")
    batch_size: Count = Field(64, description="pairs in a step, over all processes and accumulated micro-batches")
    max_epochs: Count = Field(1, description="passes over the pairs; the best by validation loss is kept")
    gradient_clip: Positive | None = Field(1.0, description="largest norm of the gradient; null does not clip")
    max_length: Annotated[Int, Field(ge=4)] = Field(128, description="tokens of a text that the student sees")
    seed: Natural = Field(0, description="seed of the projection, the order of the pairs and dropout")


# The fields that come first among the columns of summary.csv, in this order; the others follow.
FIRST_COLUMNS = ("lr", "warmup_steps", "weight_decay", "batch_size", "max_epochs", "gradient_clip", "max_length")
TRAINING_COLUMNS = tuple(dict.fromkeys((*FIRST_COLUMNS, *Training.model_fields)))


class Base(Training):
    """Phase 1: the student learns the teacher's vectors of any text."""

    student: PathText = Field("all-MiniLM-L6-v2", description="a transformer: a name or a folder")
    student_dim: Count | None = Field(None, description="its dimensions, checked where given")
    layers: Annotated[tuple[Natural, ...], Field(min_length=1)] | None = Field(
        None,
        description="which of its layers are kept, counted from 0; keep the last one; a list of lists is swept (default: all)",
    )
    dropout: Annotated[Float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="0.0 is faster, and good where the teacher's vectors are the target (default: the student's own)",
    )
    freeze_word_embeddings: bool = Field(False, description="keep the student's word embeddings as they are")
    use_projection: bool = Field(
        True,
        description="a projection onto the teacher's dimensions; false: the student's own dimensions learn the teacher's first ones",
    )
    projection_hidden_dim: Count | None = Field(
        None, description="width of the projection (default: 4 × the student's)"
    )
    mrl_dimensions: Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        None, description="nested dimensions that shall be good vectors of their own; without projection only"
    )
    mse_weight: NonNegative = Field(1.0, description="weight of the mean squared error to the teacher's vectors")
    cosine_weight: NonNegative = Field(1.0, description="weight of 1 - cosine to the teacher's vectors")
    retrieval_weight: NonNegative = Field(
        0.0,
        description="weight of InfoNCE of a query with the teacher's vectors of its passage and of 64 hard negatives, which costs nothing",
    )
    max_samples_per_dataset: Count | None = Field(
        None, description="pairs of one ontology or file in an epoch at most, drawn anew each epoch (default: all)"
    )


class Contrast(Section):
    """Settings that only phase 2 has."""

    mode: Mode = Field(
        "phase2",
        description="phase2: train; lora: train low-rank updates beside the student's linear layers; base_only: phase 1 as it is, measured",
    )
    infonce_weight: NonNegative = Field(1.0, description="weight of InfoNCE: find the query's passage among others")
    mse_weight: NonNegative = Field(0.0, description="weight of the mean squared error to the teacher's vectors")
    temperature: Positive = Field(0.05, description="similarities are divided by it")
    num_negatives: Annotated[Natural, Field(le=MOST_NEGATIVES)] = Field(
        0, description="hard negatives of each query: the user's, then the nearest by the teacher that are not true"
    )
    in_batch_negatives: bool = Field(
        True, description="all other passages of the global batch are negatives too, but a query's true ones"
    )
    teacher_negatives: bool = Field(
        False,
        description="InfoNCE also of a query with the teacher's vectors of its passage and of 64 hard negatives, which costs nothing",
    )
    topic_batches: bool = Field(
        False,
        description="a batch has pairs whose passages are alike to the teacher, so that in-batch negatives are hard ones; costs nothing",
    )
    max_samples: Count | None = Field(
        None, description="pairs in an epoch at most, drawn anew each epoch (default: all)"
    )
    rank: Count | None = Field(None, description="lora: rank of the update of each linear layer (default: 8)")
    alpha: Positive | None = Field(
        None, description="lora: an update is scaled by alpha / rank (default: twice the rank)"
    )
    seed_finetune: Natural | None = Field(None, description="seed of phase 2 (default: phase 1's)")


class Finetune(optional(Training, "null: as phase 1 has it", ("seed",)), Contrast):
    """Phase 2: the student learns to retrieve. A value that is not given is that of phase 1."""
