"""How well vectors find the right passage, and how alike two models see the same texts."""

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from .text import Positives

QUERIES_AT_ONCE = 512
SIMILARITY_QUERIES, SIMILARITY_PASSAGES = 300, 1000  # 300,000 similarities give three digits of their correlation


@torch.inference_mode()
def retrieval(
    queries: Tensor, passages: Tensor, query_ids: np.ndarray, passage_ids: np.ndarray, true: Positives
) -> dict:
    """Recall at 1 and 10, reciprocal rank and nDCG at 10, as means over queries, from the full ranking of all passages.

    queries [Q, d] and passages [P, d] are unit vectors of `query_ids` [Q] and `passage_ids` [P]. Recall is the share of
    queries with a true passage among the first k. Tied passages all get the worst of their ranks, so that a model that
    gives all texts the same vector finds nothing.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    for rows in torch.arange(len(queries)).split(QUERIES_AT_ONCE):
        scores = queries[rows] @ passages.T  # (q, p)
        is_true = torch.from_numpy(true.mask(query_ids[rows.numpy()], passage_ids)).to(scores.device)
        for score, own in zip(scores, is_true, strict=True):
            ranks = torch.sort((score >= score[own, None]).sum(1)).values.double()  # of each true passage, from 1
            discount = torch.where(ranks <= 10, 1 / torch.log2(ranks + 1), 0.0).sum()
            ideal = (1 / torch.log2(torch.arange(min(len(ranks), 10), dtype=torch.float64) + 2)).sum()
            best = ranks[0]
            sums += torch.stack([best <= 1, best <= 10, 1 / best, discount / ideal]).double().cpu()
    r1, r10, mrr, ndcg = (sums / len(queries)).tolist()
    return {"recall_at_1": r1, "recall_at_10": r10, "mrr": mrr, "ndcg_at_10": ndcg}


def similarity_correlation(
    queries: Tensor, passages: Tensor, teacher_queries: Tensor, teacher_passages: Tensor
) -> float:
    """Spearman's correlation between the student's and the teacher's similarities, over evenly spaced texts."""
    q = torch.linspace(0, len(queries) - 1, min(SIMILARITY_QUERIES, len(queries))).long()
    p = torch.linspace(0, len(passages) - 1, min(SIMILARITY_PASSAGES, len(passages))).long()
    own = (queries[q] @ passages[p].T).flatten().cpu().numpy()
    teachers = (teacher_queries[q] @ teacher_passages[p].T).flatten().cpu().numpy()
    found: Any = spearmanr(own, teachers)  # its stubs lack `statistic`
    return float(found.statistic)
