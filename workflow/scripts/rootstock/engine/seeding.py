"""Randomness without a state to lose: every generator is seeded anew for each step, from seed, step and rank.

A resumed training therefore draws what an uninterrupted one draws, whether a model uses torch, numpy or random.
"""

import random

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed all global generators for one step of one process; step 0 is for initial weights."""
    key = ((seed * 1_000_003 + step) * 4099 + rank) & 0x7FFF_FFFF_FFFF_FFFF
    torch.manual_seed(key)
    np.random.seed(key & 0xFFFF_FFFF)
    random.seed(key)
