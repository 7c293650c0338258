"""A trained student as a sentence-transformers folder that needs nothing of this project."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer
from torch import nn

from ...engine.files import load
from ...store.files import write_atomically
from ..loading import whole
from .card import card
from .student import Projection, SentenceEncoder, Tokenizer, load_model


def export(
    model: BinaryIO,
    metadata: dict[str, Any],
    data: str,
    study: dict[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write the student of `model`, updates merged, into `folder`: modules, weights, tokenizer, a card, the study that made it."""
    where = Path(model.name)
    content = whole(load(model), where, where.parent.parent)
    student = load_model(content, model.name)
    with TemporaryDirectory(dir=folder) as beside:
        sentence_transformer(student, student.tokenizer, Path(beside)).save_pretrained(
            str(folder), create_model_card=False
        )
    write_atomically(folder / "study.yaml", yaml.safe_dump(study, sort_keys=False, allow_unicode=True).encode())
    write_atomically(folder / "README.md", card(folder.name, content, metadata, Path(data)).encode())
    say(f"{folder}: {sum(p.numel() for p in student.parameters())} parameters, {student.dimension} dimensions")


def sentence_transformer(student: SentenceEncoder, tokenizer: Tokenizer, beside: Path) -> SentenceTransformer:
    """The same student, built of stock modules. `beside` is an empty folder, from which the `Transformer` is loaded."""
    student.transformer.save_pretrained(beside)
    tokenizer.tokenizer.save_pretrained(beside)
    transformer = Transformer(str(beside), max_seq_length=tokenizer.max_length)
    modules: list[nn.Module] = [transformer, Pooling(student.width, pooling_mode="mean")]
    if student.projection is not None:
        modules += stock_modules(student.projection)
    return SentenceTransformer(modules=[*modules, Normalize()], device="cpu").eval()


def stock_modules(projection: Projection) -> list[nn.Module]:
    """A projection as modules of sentence-transformers. A Dense with the identity as its weight applies the GELU."""
    first_norm, second_norm = projection.norms
    width = projection.first.out_features
    gelu = Dense(width, width, bias=False, activation_function=nn.GELU(), init_weight=torch.eye(width))
    return [_dense(projection.first), _norm(first_norm), gelu, _dense(projection.last), _norm(second_norm)]


def _dense(layer: nn.Linear) -> Dense:
    return Dense(
        layer.in_features,
        layer.out_features,
        activation_function=nn.Identity(),
        init_weight=layer.weight.detach(),
        init_bias=layer.bias.detach(),
    )


def _norm(layer: nn.LayerNorm) -> LayerNorm:
    module = LayerNorm(layer.normalized_shape[0])
    module.norm.load_state_dict(layer.state_dict())
    return module
