"""Batches of base and target samples: pure functions of their generator."""

import torch
from torch import Tensor

from ...engine.batches import even_batches


def composed_batches(
    n_base: int, n_target: int, batch_size: int, share: float, generator: torch.Generator
) -> list[Tensor]:
    """Batches that each hold a `share` of target samples: one pass over the base, the target reshuffled when used up.

    Base samples are numbered 0 … n_base-1, target samples follow.
    """
    from_target = min(batch_size - 1, max(1, round(share * batch_size)))
    base = even_batches(torch.randperm(n_base, generator=generator), batch_size - from_target)
    sizes = [max(1, round(len(batch) * from_target / (batch_size - from_target))) for batch in base]  # keeps the share
    rounds = -(-sum(sizes) // n_target)
    target = torch.cat([torch.randperm(n_target, generator=generator) for _ in range(rounds)])[: sum(sizes)] + n_base
    return [torch.cat([b, t]) for b, t in zip(base, target.split(sizes), strict=True)]
