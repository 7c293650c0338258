"""The student: a transformer with all or some of its layers, mean pooling, and an optional projection."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ...engine.models import rebuilt
from ...study.problems import Refusal
from .pretrained import DROPOUTS, locate
from .specs import Student

TOKENIZER_FILES = (".json", ".txt", ".model")
LAYER_LISTS = ("encoder.layer", "transformer.layer", "encoder.layers", "layers")  # BERT and MPNet, DistilBERT, others
NO_CODE = {"trust_remote_code": False}  # otherwise transformers asks in the terminal whether to run a folder's code
IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")  # they may name a kernel on the hub
NAMES_OF_CODE = ("auto_map", *IMPLEMENTATIONS, *(f"_{name}" for name in IMPLEMENTATIONS))
TEXTS_AT_ONCE = {"cpu": 32}  # texts of similar length computed together, for little padding; GPUs prefer large pieces
TEXTS_AT_ONCE_GPU = 512


logging.disable_progress_bar()  # a job's log is not a terminal


class Projection(nn.Sequential):
    """Linear, LayerNorm, GELU, Linear, LayerNorm: from the student's dimensions to the teacher's."""

    def __init__(self, width: int, hidden: int, dimension: int):
        super().__init__(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, dimension),
            nn.LayerNorm(dimension),
        )

    def features(self, pooled: Tensor) -> Tensor:
        """The inputs [N, hidden] of its last linear layer for pooled vectors [N, width]."""
        for layer in list(self)[:3]:
            pooled = layer(pooled)
        return pooled

    @property
    def first(self) -> nn.Linear:
        """Its first linear layer."""
        return cast(nn.Linear, self[0])

    @property
    def last(self) -> nn.Linear:
        """Its last linear layer."""
        return cast(nn.Linear, self[3])

    @property
    def norms(self) -> tuple[nn.LayerNorm, nn.LayerNorm]:
        """The norm after each linear layer."""
        return cast(nn.LayerNorm, self[1]), cast(nn.LayerNorm, self[4])


class SentenceEncoder(nn.Module):
    """Maps texts, as token numbers, to unit vectors. A model loaded from a file has the `tokenizer` that makes them."""

    tokenizer: "Tokenizer"

    def __init__(self, transformer: PreTrainedModel, projection: Projection | None):
        super().__init__()
        self.transformer, self.projection = transformer, projection

    @property
    def width(self) -> int:
        return self.transformer.config.hidden_size

    @property
    def dimension(self) -> int:
        return self.width if self.projection is None else self.projection.last.out_features

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> Tensor:
        """Unit vectors float32 [N, dimension] of texts."""
        tokens, lengths = self.tokenizer(texts)
        device = next(self.parameters()).device
        return self(tokens.to(device), lengths.to(device))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Unit vectors float32 [N, dimension] of token numbers [N, L]: of each text `lengths` [N], then padding."""
        pooled = self.pooled(tokens, lengths)
        vectors = pooled if self.projection is None else self.projection(pooled)
        return F.normalize(vectors.float(), dim=1)

    def pooled(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """The mean of each text's token vectors, float32 [N, width].

        Texts of similar length are computed together, so that little time is spent on padding.
        """
        order = torch.argsort(lengths, stable=True)
        at_once = TEXTS_AT_ONCE.get(tokens.device.type, TEXTS_AT_ONCE_GPU)
        parts = [self._mean(tokens[rows], lengths[rows]) for rows in order.split(at_once)]
        return torch.cat(parts)[torch.argsort(order)]

    def _mean(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        tokens = tokens[:, : int(lengths.max())]
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]  # (n, l)
        hidden = self.transformer(input_ids=tokens, attention_mask=mask.long()).last_hidden_state.float()
        weight = mask[:, :, None].float()  # (n, l, 1) against (n, l, width)
        return (hidden * weight).sum(1) / weight.sum(1)


class Tokenizer:
    """A pretrained tokenizer and the files that it is made of, so that a model file can carry it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int):
        self.tokenizer, self.max_length = tokenizer, max_length
        tokenizer.padding_side = "right"

    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token numbers int64 [N, L], cut at `max_length` and padded at the right, and the length of each text [N]."""
        found = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        return found["input_ids"], found["attention_mask"].sum(1)

    def files(self) -> dict[str, str]:
        """Its files by name, as text."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            self.tokenizer.save_pretrained(folder)
            return {file.name: file.read_text(encoding="utf-8") for file in sorted(Path(folder).iterdir())}

    @classmethod
    def of_files(cls, files: dict[str, str], max_length: int) -> "Tokenizer":
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, Path(name).name).write_text(content, encoding="utf-8")
            return cls(AutoTokenizer.from_pretrained(folder, **NO_CODE), max_length)


def pretrained_student(spec: Student, max_length: int, dimension: int | None) -> tuple[SentenceEncoder, Tokenizer]:
    """The student before phase 1: pretrained weights, the chosen layers, a new projection onto `dimension`."""
    where = locate(spec.model, "base.student")
    try:
        transformer = AutoModel.from_pretrained(
            where, config=_with_dropout(AutoConfig.from_pretrained(where, **NO_CODE), spec.dropout), **NO_CODE
        )
        tokenizer = AutoTokenizer.from_pretrained(where, **NO_CODE)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:160]
        raise Refusal(
            f"base.student: {spec.model.known_as} cannot be loaded or fetched ({reason}); give a folder"
        ) from None
    if tokenizer.pad_token_id is None:
        raise Refusal(
            f"base.student: {spec.model.known_as} has a tokenizer without padding token; add one to its folder"
        )
    if spec.layers is not None:
        keep_layers(transformer, spec.layers, spec.model.known_as)
    if spec.dimension not in (None, transformer.config.hidden_size):
        raise Refusal(
            f"base.student_dim: {spec.dimension} is not the student's; it has {transformer.config.hidden_size}"
        )
    return _assembled(transformer, spec.projection_hidden_dim, dimension), Tokenizer(tokenizer, max_length)


def load_model(content: dict[str, Any], where: str) -> SentenceEncoder:
    """The student of a model file, with its tokenizer, rebuilt from what the file itself holds."""
    return rebuilt(content, lambda: _built(content), where)


def architecture_of(model: SentenceEncoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """Plain values from which `load_model` rebuilds the network, without its weights."""
    projection = model.projection
    config = json.loads(model.transformer.config.to_json_string(use_diff=False))
    return {
        "config": {
            name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")
        },
        "projection_hidden_dim": None if projection is None else projection.first.out_features,
        "dimension": None if projection is None else model.dimension,
        "max_length": tokenizer.max_length,
    }


def keep_layers(transformer: PreTrainedModel, layers: tuple[int, ...], name: str) -> None:
    """Keep these layers of a transformer, in the order given."""
    for path in LAYER_LISTS:
        try:
            parent, _, last = path.rpartition(".")
            owner = transformer.get_submodule(parent)
            found = getattr(owner, last)
        except AttributeError:
            continue
        if max(layers) >= len(found):
            raise Refusal(f"base.layers: {max(layers)} is not there, {name} has layers 0 to {len(found) - 1}")
        setattr(owner, last, nn.ModuleList(found[i] for i in layers))
        transformer.config.num_hidden_layers = len(layers)
        return
    raise Refusal(
        f"base.layers: the layers of {name} ({type(transformer).__name__}) were not found; give a smaller student"
    )


def _with_dropout(config: Any, dropout: float | None) -> Any:
    for name in DROPOUTS:
        if dropout is not None and hasattr(config, name):
            setattr(config, name, dropout)
    return config


def without_code(config: Any) -> Any:
    """A file's config without the keys that name code to fetch or load."""
    if isinstance(config, dict):
        return {key: without_code(value) for key, value in config.items() if key not in NAMES_OF_CODE}
    return [without_code(value) for value in config] if isinstance(config, list) else config


def _built(content: dict[str, Any]) -> SentenceEncoder:
    shape = content["architecture"]
    transformer = AutoModel.from_config(AutoConfig.for_model(**without_code(shape["config"])), **NO_CODE)
    model = _assembled(transformer, shape["projection_hidden_dim"], shape["dimension"])
    model.tokenizer = Tokenizer.of_files(content["tokenizer"], shape["max_length"])
    return model


def _assembled(transformer: PreTrainedModel, hidden: int | None, dimension: int | None) -> SentenceEncoder:
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler.requires_grad_(False)  # not used; kept so that the exported model is complete
    width, out = transformer.config.hidden_size, cast(int, dimension)  # None only if there is no projection
    projection = None if hidden is None else Projection(width, hidden, out)
    return SentenceEncoder(transformer, projection)
