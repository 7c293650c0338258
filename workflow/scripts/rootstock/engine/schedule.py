"""The learning rate over the steps of a training."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR


def make_schedule(
    name: str,
    optimizer: Optimizer,
    lr: float,
    total_steps: int,
    warmup_steps: int = 0,
    decay_pct: float | None = None,
) -> LRScheduler | None:
    """`constant`, `linear` (to 0), `cosine` (to 0), `wsd` (constant, then linear to 0 over the last `decay_pct` of all
    steps; Hu et al. 2024) or `one_cycle` (30 % warm-up, then cosine; Smith & Topin 2019).

    Step it after each optimizer step. The first `warmup_steps` rise linearly to `lr`; `one_cycle` has a warm-up of its
    own.
    """
    if name == "one_cycle":
        return OneCycleLR(optimizer, max_lr=lr, total_steps=total_steps)
    if warmup_steps == 0 and name == "constant":
        return None
    if warmup_steps == 0 and name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total_steps)
    decay = {
        "constant": lambda _: 1.0,
        "linear": lambda t: 1 - t,
        "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
        "wsd": lambda t: min(1.0, (1 - t) * (total_steps - warmup_steps) / max(total_steps * (decay_pct or 1), 1)),
    }
    if name not in decay:
        raise ValueError(f"schedule {name!r} unknown")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return decay[name](min(1.0, (step - warmup_steps) / max(total_steps - warmup_steps, 1)))

    return LambdaLR(optimizer, factor)
