"""The loss of an output layer in chunks of tokens, so that the logits of a batch, tokens × vocabulary, never exist at once."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

NOT_COUNTED = -100  # `ignore_index` of torch's cross entropy
CHUNK = {"cpu": 2**20}  # logits; they stay in a core's cache
LARGER_CHUNK = 2**26  # 256 MB of a GPU's memory


def summed_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy in nats of logits `hidden` [N, C] @ `weight` [V, C].T, summed over the targets [N] that count;
    float64."""
    return _SummedLoss.apply(hidden, weight, targets)  # type: ignore[no-any-return]


class _SummedLoss(torch.autograd.Function):
    """Computes each chunk's gradients while its logits exist, and only scales them in the backward pass (Hsu et al.
    2024, arXiv 2410.10989)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        of_hidden, of_weight = (
            torch.zeros_like(x) if needed else None
            for x, needed in zip((hidden, weight), ctx.needs_input_grad, strict=False)
        )
        rows = max(1, CHUNK.get(hidden.device.type, LARGER_CHUNK) // len(weight))
        for begin in range(0, len(hidden), rows):
            here = slice(begin, begin + rows)
            loss, of_logits = _chunk(F.linear(hidden[here], weight).float(), targets[here])
            total += loss
            if of_hidden is not None:
                of_hidden[here] = of_logits @ weight
            if of_weight is not None:
                of_weight += of_logits.T @ hidden[here]
        ctx.save_for_backward(of_hidden, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> tuple[Tensor | None, ...]:
        return *(None if one is None else one * outer[0] for one in ctx.saved_tensors), None


def _chunk(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss and its gradient [n, V], which overwrites the logits."""
    counts = (targets != NOT_COUNTED).to(logits.dtype)  # (n)
    targets = targets.clamp(min=0)[:, None]  # (n, 1)
    logits -= logits.amax(1, keepdim=True)
    wanted = logits.gather(1, targets)[:, 0]
    sums = logits.exp_().sum(1)
    logits *= (counts / sums)[:, None]
    logits.scatter_add_(1, targets, -counts[:, None])
    return ((sums.log() - wanted) * counts).sum(dtype=torch.float64), logits
