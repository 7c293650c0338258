"""Models out of files."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..study.identity import digest, sha256_bytes
from ..study.problems import Refusal
from .low_rank import merged

M = TypeVar("M", bound=nn.Module)


def rebuilt(content: dict[str, Any], build: Callable[[], M], where: str) -> M:
    """The network that `build` makes, with the weights of a model file, low-rank updates merged; `where` names the file.

    Raises `Refusal` where the file lacks what `build` needs, or its weights are of another shape.
    """
    try:
        model = build()
        model.load_state_dict(merged(content["model"]))
    except Refusal:
        raise
    except Exception as error:  # what somebody else wrote can fail its reader in any way
        said = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        reason = " ".join(said[:2])[:300]  # torch says in the second line which weights do not fit
        raise Refusal(f"{where}: of another architecture than its spec says: {reason}") from None
    return model


def weights_digest(weights: dict[str, Tensor]) -> str:
    """The hash of weights by names, types, shapes and bits, wherever they lie."""
    return digest(
        [[name, str(w.dtype), list(w.shape), sha256_bytes(_bytes_of(w))] for name, w in sorted(weights.items())]
    )


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def count_parameters(model: nn.Module) -> int:
    """All of them, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())
