"""Layers that must see a whole batch at once, not parts of it."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..study.problems import Refusal
from .progress import Context


def require_whole_batches(model: nn.Module, batch_size: int, context: Context) -> None:
    """Raise `Refusal` if a batch would be cut although the model has BatchNorm in training mode, whose output for one
    sample depends on the others: the weights would depend on run settings, which are not part of the hash.

    On GPUs processes see each other's samples (`World.wrap`); micro-batches never do.
    """
    if not any(isinstance(layer, _BatchNorm) and layer.training for layer in model.modules()):
        return
    world, micro = context.world, context.run.micro_batch_size
    why = "but the model has BatchNorm, which must see all of it at once"
    if micro is not None and micro < -(-batch_size // world.size):
        raise Refusal(f"run.micro_batch_size: {micro} cuts a batch of {batch_size}, {why}; remove it")
    if world.size > 1 and context.device.type == "cpu":
        raise Refusal(f"run.processes: {world.size} share a batch of {batch_size}, {why}; use one process on CPUs")
