"""Which samples make a batch: orders of an epoch, pure functions of their generator."""

import torch
from torch import Tensor


def even_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into ceil(N / batch_size) batches whose sizes differ by one at most: no tiny last batch."""
    return list(torch.tensor_split(order, -(-len(order) // batch_size)))


def composed_batches(
    n_base: int, n_target: int, batch_size: int, share: float, generator: torch.Generator
) -> list[Tensor]:
    """Batches with `share` of target samples each: one pass over the base, the target reshuffled whenever used up.

    Base samples are numbered 0 … n_base-1, target samples follow.
    """
    from_target = min(batch_size - 1, max(1, round(share * batch_size)))
    base = even_batches(torch.randperm(n_base, generator=generator), batch_size - from_target)
    sizes = [max(1, round(len(batch) * from_target / (batch_size - from_target))) for batch in base]  # the share holds
    rounds = -(-sum(sizes) // n_target)
    target = torch.cat([torch.randperm(n_target, generator=generator) for _ in range(rounds)])[: sum(sizes)] + n_base
    return [torch.cat([b, t]) for b, t in zip(base, target.split(sizes), strict=True)]
