"""Optimizers as torch has them, without loading torch's compiler: that import takes longer than many a fine-tune."""

import torch
from torch import nn

_PLAIN_STEP = getattr(torch.optim.AdamW.step, "__wrapped__", None)


class _AdamW(torch.optim.AdamW):
    """The same update. torch's own `step` imports `torch._dynamo` (1 to 5 s) only to break a graph that is not there."""

    step = torch.no_grad()(_PLAIN_STEP or torch.optim.AdamW.step)


def adamw(model: nn.Module, lr: float, weight_decay: float, *, compiled: bool = False) -> torch.optim.Optimizer:
    """AdamW over the parameters of `model` that are not frozen."""
    plain = _PLAIN_STEP is not None and not compiled
    if plain:
        _leave_compiler_unloaded()
    return (_AdamW if plain else torch.optim.AdamW)(trainable(model), lr=lr, weight_decay=weight_decay)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _leave_compiler_unloaded() -> None:
    """Call the methods that torch keeps from being compiled as they are: torch looks for `__dynamo_disable` on each and
    loads its compiler to make one. Where a later torch does it otherwise this changes nothing."""
    for method in vars(torch.optim.Optimizer).values():
        code, wrapped = getattr(method, "__code__", None), getattr(method, "__wrapped__", None)
        if wrapped is not None and code is not None and code.co_filename == torch._compile.__file__:
            setattr(wrapped, "__dynamo_disable", wrapped)
