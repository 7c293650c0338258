"""Which pairs an epoch has, in which order: pure functions of seed and epoch."""

import numpy as np


def pairs_of_epoch(
    pairs: np.ndarray, dataset: np.ndarray, most_per_dataset: int | None, most: int | None, seed: int, epoch: int
) -> np.ndarray:
    """The pairs [N] of an epoch, shuffled: at most so many of each data set [N], at most so many in all, drawn anew."""
    order = np.random.default_rng([seed, epoch]).permutation(len(pairs))
    if most_per_dataset is not None:
        rank = np.empty(len(pairs), dtype=np.int64)  # of a pair within its data set, in this order
        for number in np.unique(dataset):
            of_it = np.flatnonzero(dataset[order] == number)
            rank[of_it] = np.arange(len(of_it))
        order = order[rank < most_per_dataset]
    return pairs[order[:most]]
