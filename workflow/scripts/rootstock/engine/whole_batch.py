"""Layers that see a whole batch at once, and so must not be given parts of it."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..study.problems import Refusal
from .progress import Context


def require_whole_batches(model: nn.Module, batch_size: int, context: Context) -> None:
    """`Refusal` where a batch would be cut and the model, in training mode, has a layer whose output for one sample depends on
    the others: its weights would then depend on how it is run, which is no part of its name.

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
