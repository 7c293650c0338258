"""The weights of a pretrained Llama as those of our model, in float32. safetensors reads them: nothing is unpickled."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...study.problems import Refusal
from ..folders import unchanged_folder
from .llama import NAMES, llama_name, sizes_of
from .llama_folder import fingerprint, weight_files
from .model import LanguageModel
from .settings import Model
from .specs import Pretrained
from .start import KEY

OF_TOKENS = ("embedding.weight", "head")  # weights with one row per token


def pretrained_model(begun: Pretrained, shape: Model, vocabulary: int) -> LanguageModel:
    """Load the model of a folder that is unchanged since it was planned; `vocabulary` counts its tokenizer's tokens."""
    model = LanguageModel(vocabulary, shape)
    model.load_state_dict(read_weights(folder_of_start(begun), shape, vocabulary), assign=True)
    return model


def folder_of_start(begun: Pretrained) -> Path:
    return unchanged_folder(begun.folder, begun.content, fingerprint, KEY)


def read_weights(folder: Path, shape: Model, vocabulary: int) -> dict[str, Tensor]:
    """The weights in a folder, under our names. Raise `Refusal` where one is missing or does not fit the shape.

    Many models pad their tables for speed. Rows beyond the tokens are cut off, because no text uses them.
    """
    wanted = {llama_name(name): (name, size) for name, size in sizes_of(shape, vocabulary).items()}
    found: dict[str, Tensor] = {}
    own_head = None
    for name, tensor in _tensors(folder):
        if name in wanted:
            ours, size = wanted[name]
            rows = tensor[:vocabulary] if ours in OF_TOKENS else tensor
            found[ours] = _checked(rows, size, f"{folder}: {name}")
        elif name == NAMES["head"]:
            own_head = tensor[:vocabulary].float()
    if missing := [name for name, (ours, _) in wanted.items() if ours not in found]:
        raise Refusal(f"{folder}: lacks the weight {missing[0]}; plan again")
    if own_head is not None and not torch.equal(own_head, found["embedding.weight"]):
        fix = "mend tie_word_embeddings in its config.json"
        raise Refusal(f"{folder}: has an output layer other than its embeddings, which it says are one; {fix}")
    return found


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        for file in weight_files(folder):
            with safe_open(file, framework="pt") as content:
                names = content.keys()
                yield from ((name, content.get_tensor(name)) for name in names)
    except (OSError, ValueError, SafetensorError) as error:
        raise Refusal(f"{folder}: has weights that cannot be read ({error})") from None


def _checked(tensor: Tensor, size: tuple[int, ...], what: str) -> Tensor:
    if tuple(tensor.shape) != size:
        raise Refusal(f"{what} is of size {list(tensor.shape)}, not {list(size)}; plan again")
    if not bool(tensor.isfinite().all()):
        raise Refusal(f"{what} holds what is no number; the model is damaged, or was trained to that")
    return tensor.float()
