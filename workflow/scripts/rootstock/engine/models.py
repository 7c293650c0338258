"""Models from files."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..study.identity import digest, sha256_bytes
from ..study.problems import Refusal
from .low_rank import merged

M = TypeVar("M", bound=nn.Module)


def rebuilt(content: dict[str, Any], build: Callable[[], M], where: str) -> M:
    """The network from `build` with the weights of a model file, low-rank updates merged. `where` names the file in
    messages.

    Raise `Refusal` if the file lacks what `build` needs, or its weights do not fit.
    """
    try:
        model = build()
        model.load_state_dict(merged(content["model"]))
    except Refusal:
        raise
    except Exception as error:  # a file from somebody else can fail in any way
        said = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        reason = " ".join(said[:2])[:300]  # torch's second line says which weights do not fit
        raise Refusal(f"{where}: of another architecture than its spec says: {reason}") from None
    return model


def weights_digest(weights: dict[str, Tensor]) -> str:
    """A hash of the names, types, shapes and bits of weights, the same on every device."""
    return digest(
        [[name, str(w.dtype), list(w.shape), sha256_bytes(_bytes_of(w))] for name, w in sorted(weights.items())]
    )


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def count_parameters(model: nn.Module) -> int:
    """The number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
