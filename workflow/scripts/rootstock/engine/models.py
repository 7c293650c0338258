"""Models out of files."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from ..study.problems import Refusal

M = TypeVar("M", bound=nn.Module)


def rebuilt(content: dict[str, Any], build: Callable[[], M], where: str) -> M:
    """The network that `build` makes, with the weights of a model file; `where` names the file.

    Raises `Refusal` where the file lacks what `build` needs, or its weights are of another shape.
    """
    try:
        model = build()
        model.load_state_dict(content["model"])
    except Refusal:
        raise
    except Exception as error:  # what somebody else wrote can fail its reader in any way
        said = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        reason = " ".join(said[:2])[:300]  # torch says in the second line which weights do not fit
        raise Refusal(f"{where}: of another architecture than its spec says: {reason}") from None
    return model


def count_parameters(model: nn.Module) -> int:
    """All of them, frozen ones too."""
    return sum(parameter.numel() for parameter in model.parameters())
