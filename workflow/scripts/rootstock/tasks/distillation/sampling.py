"""Which pairs an epoch has, and in which order: pure functions of seed and epoch."""

import numpy as np


def pairs_of_epoch(
    pairs: np.ndarray, dataset: np.ndarray, most_per_dataset: int | None, most: int | None, seed: int, epoch: int
) -> np.ndarray:
    """The pairs of an epoch, drawn anew from `pairs` [N] and shuffled: at most `most` of them, and at most
    `most_per_dataset` of each data set in `dataset` [N]."""
    order = np.random.default_rng([seed, epoch]).permutation(len(pairs))
    if most_per_dataset is not None:
        rank = np.empty(len(pairs), dtype=np.int64)  # of a pair within its data set, in this order
        for number in np.unique(dataset):
            of_it = np.flatnonzero(dataset[order] == number)
            rank[of_it] = np.arange(len(of_it))
        order = order[rank < most_per_dataset]
    return pairs[order[:most]]


def alike_together(
    pairs: np.ndarray, points: np.ndarray, sizes: list[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches of these `sizes`, in random order, each of pairs [N] whose points [N, d] lie near each other.

    The pairs are halved repeatedly along the line through two random points. This is topic-aware sampling (Hofstätter
    et al. 2021) without k-means, so that each batch has exactly its size.
    """
    batches = _halved(pairs, points, sizes, rng)
    return [batches[number] for number in rng.permutation(len(batches))]


def _halved(pairs: np.ndarray, points: np.ndarray, sizes: list[int], rng: np.random.Generator) -> list[np.ndarray]:
    if len(sizes) == 1:
        return [pairs]
    one, other = points[rng.choice(len(pairs), 2, replace=False)]
    order, half = np.argsort(points @ (one - other), kind="stable"), len(sizes) // 2
    near, far = np.split(order, [sum(sizes[:half])])
    return [
        *_halved(pairs[near], points[near], sizes[:half], rng),
        *_halved(pairs[far], points[far], sizes[half:], rng),
    ]
