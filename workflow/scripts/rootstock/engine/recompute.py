"""Activation checkpointing (Chen et al. 2016): only each block's input is kept; its activations are recomputed for
gradients."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..study.problems import Refusal


def recompute(blocks: Iterable[nn.Module] | None) -> None:
    """Make these blocks recompute their activations: the same values and gradients, less memory, a second forward pass.

    Raise `Refusal` if the network is not made of blocks.
    """
    if blocks is None:
        raise Refusal("run.activation_checkpointing: true needs a network of blocks, and this one has none; remove it")
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Any, *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False)
