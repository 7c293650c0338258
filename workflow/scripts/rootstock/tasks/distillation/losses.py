"""Losses of both phases, one value per row. A phase sums them, because the engine divides by the global batch.

All vectors are unit vectors [N, d], float32; the teacher's are constants.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over dimensions of the squared difference, per row [N]."""
    return (student - teacher).square().mean(1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, per row [N]."""
    return 1 - F.cosine_similarity(student, teacher, dim=1)


def info_nce(query: Tensor, own: Tensor, others: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    """-log of the softmax probability of the query's own passage against the allowed others, per row [N].

    query, own [N, d]; others [M, d] for all queries, or [N, K, d] for each its own; allowed bool [N, M] or [N, K].
    van den Oord et al. 2018, with cosine similarities over `temperature`.
    """
    with torch.autocast(query.device.type, enabled=False):  # similarity / 0.05 needs more than bf16's three digits
        similarity = torch.einsum("nd,md->nm" if others.dim() == 2 else "nd,nkd->nk", query, others)
    others_logits = (similarity / temperature).masked_fill(~allowed, float("-inf"))
    own_logit = (query * own).sum(1, keepdim=True) / temperature  # (n, 1)
    logits = torch.cat([own_logit, others_logits], dim=1)
    return torch.logsumexp(logits, dim=1) - own_logit[:, 0]


def nested(vectors: Tensor, dimensions: tuple[int, ...]) -> list[Tensor]:
    """The first `d` numbers of each vector as unit vectors, for each d (Kusupati et al. 2022)."""
    return [F.normalize(vectors[..., :d], dim=-1) for d in dimensions]
