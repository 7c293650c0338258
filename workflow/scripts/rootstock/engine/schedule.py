"""Learning rate over the steps of a training."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR


def make_schedule(name: str, optimizer: Optimizer, lr: float, total_steps: int) -> LRScheduler | None:
    """`constant`, `cosine` (to 0) or `one_cycle` (30 % warm-up, then cosine; Smith & Topin 2019), stepped each step."""
    match name:
        case "constant":
            return None
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=total_steps)
        case "one_cycle":
            return OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps)
        case _:
            raise ValueError(f"schedule {name!r} unknown")
