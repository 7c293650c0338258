"""How much memory a training on text needs: the mapped tokens, the transformer, one step. Light: no torch."""

import math
from pathlib import Path

from ...study.fingerprints import Fingerprints
from ...study.memory import MB, Memory
from .dataset import files_by_domain, tokenizer_files
from .llama import sizes_of
from .settings import Data, Model
from .specs import BaseSpec, FinetuneSpec

NUMBER = 4  # bytes of a float32; mixed precision keeps copies beside it
BUILT_IN = 30 * MB  # tokens of all ontologies
# No more than this is counted: text may be larger than memory, because the kernel drops pages that it read before.
MOST_MAPPED = 8000 * MB
UNPACKED = 5  # the text of a parquet file is this many times as large as the file
BYTES_OF_A_WORD = 20  # of a tokenizer's file, at least, per entry of its vocabulary
LOADED = 600 * MB
EVALUATED = 32  # windows, see `measure`


def memory_of(data: Data, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints) -> Memory:
    """The memory that a trunk needs or, with `finetune`, a branch of it."""
    spec, shape = finetune or base, base.model
    vocabulary = data.vocab_size or fingerprints.once(f"words {data.tokenizer}", lambda: _words(data))
    tokens = BUILT_IN if data.path is None else fingerprints.once(f"text {data.path}", lambda: _tokens(data))
    return Memory(
        tokens,
        _parameters(shape, vocabulary),
        spec.batch_size or 0,
        _kept(shape),
        EVALUATED * NUMBER * shape.context_length * 3 * (shape.d_model + shape.d_ff),
        LOADED,
        _kept(shape, of_one=True),
    )


def _parameters(shape: Model, vocabulary: int) -> int:
    """The number of parameters, extrapolated from two shallow models: a study may ask for any number of layers."""
    shallow = (shape.model_copy(update={"n_layers": layers}) for layers in (1, 2))
    one, two = (sum(map(math.prod, sizes_of(model, vocabulary).values())) for model in shallow)
    return one + (shape.n_layers - 1) * (two - one)


def _kept(shape: Model, of_one: bool = False) -> float:
    """Bytes that a window keeps for the backward pass: the states and attention of each block or, with `of_one`, of one
    block at a time and the inputs of all. Logits are never kept."""
    block = 16 * shape.d_model + 5 * shape.d_ff + 4 * shape.n_heads * shape.context_length
    blocks = block + 2 * shape.n_layers * shape.d_model if of_one else shape.n_layers * block
    return NUMBER * shape.context_length * blocks


def _words(data: Data) -> int:
    """The largest number of entries that a given tokenizer can have."""
    return sum(file.stat().st_size for file in tokenizer_files(data.tokenizer or "")) // BYTES_OF_A_WORD


def _tokens(data: Data) -> int:
    """Bytes of the tokens of a user's text: a token stands for two letters or more, and takes two or four bytes."""
    files = (file for group in files_by_domain(Path(data.path or "")).values() for file in group)
    size = sum(file.stat().st_size * (UNPACKED if file.suffix == ".parquet" else 1) for file in files)
    return min(size, MOST_MAPPED)
