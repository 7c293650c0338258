"""Random changes of windows. Every choice is a hash of (seed, epoch, sample), so batches and processes don't matter."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ...study.problems import Refusal

TAPE = 2**21  # numbers, 8 MB: two million places where noise can begin
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64, the step of splitmix64 (Steele et al. 2014)
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


@dataclass(frozen=True)
class Augmentation:
    """Changes that may be made to a window [C, T], each with probability `prob`."""

    prob: float
    jitter_std: float
    magnitude_range: tuple[float, float]
    time_warp: float
    rotation_std: float

    def __call__(self, x: Tensor, scale: Tensor, samples: Tensor, key: int) -> Tensor:
        """Change windows x [N, C, T] with sample numbers [N] in place; `scale` [C, 1] is the sd of each channel.

        Rotation, time warp and noise are computed only for the windows that they change.
        """
        chosen = keyed_uniform(key, samples, 4) < self.prob  # (n, 4): which window gets which change
        turned, warped, _, noisy = (column.nonzero().squeeze(1) for column in chosen.T)
        if self.rotation_std > 0:
            x[turned] = rotate(x[turned], samples[turned], key + 1, self.rotation_std)
        if self.time_warp > 0:
            x[warped] = warp_time(x[warped], samples[warped], key + 2, self.time_warp)
        low, high = self.magnitude_range
        if low != 1 or high != 1:
            factor = low + (high - low) * keyed_uniform(key + 3, samples, 1)  # (n, 1)
            x *= torch.where(chosen[:, 2, None], factor, 1.0)[:, :, None].to(x.device)
        if self.jitter_std > 0:
            noise = keyed_noise(key + 4, samples[noisy], x[0].numel(), x.device).view(-1, *x.shape[1:])
            x.index_add_(0, noisy.to(x.device), noise * (self.jitter_std * scale))
        return x


def epoch_key(seed: int, epoch: int) -> int:
    """A key for all draws of one epoch; keys of different seeds and epochs are far apart."""
    return ((seed * 1_000_003 + epoch) * 1024) & 0x7FFF_FFFF_FFFF_FFFF


def keyed_uniform(key: int, samples: Tensor, draws: int) -> Tensor:
    """Uniform numbers in (0, 1), float32 [N, draws]: a pure function of key and sample number [N]."""
    start = _mix(_mix(torch.tensor(key, dtype=torch.int64, device=samples.device)) ^ (samples.long() * _GOLDEN))
    counter = torch.arange(1, draws + 1, device=samples.device, dtype=torch.int64) * _GOLDEN
    bits = _shift(_mix(start[:, None] + counter), 41)  # the top 23 bits; float32 holds them and the half exactly
    return (bits.float() + 0.5) / 2**23


def keyed_normal(key: int, samples: Tensor, draws: int) -> Tensor:
    """Standard normal numbers, float32 [N, draws], by Box–Muller."""
    half = (draws + 1) // 2
    uniform = keyed_uniform(key, samples, 2 * half)
    radius, angle = torch.sqrt(-2 * torch.log(uniform[:, :half])), 2 * math.pi * uniform[:, half:]
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :draws]


def keyed_noise(key: int, samples: Tensor, draws: int, device: torch.device) -> Tensor:
    """White noise, float32 [N, draws] on a device: each sample gets a stretch of one tape of standard normal numbers,
    which begins where key and sample number say. New numbers for each would cost as much as a small network's step."""
    tape = _tape(max(TAPE, 8 * draws), device)
    places = (keyed_uniform(key, samples, 1)[:, 0].double() * (len(tape) - draws + 1)).long()
    return tape.unfold(0, draws, 1)[places.to(device)]


@cache
def _tape(length: int, device: torch.device) -> Tensor:
    return torch.randn(length, generator=torch.Generator().manual_seed(0)).to(device)


def rotate(x: Tensor, samples: Tensor, key: int, std: float) -> Tensor:
    """Turn the sensor: all triads of channels by one rotation vector per window, its components ~ N(0, std) radians."""
    n, channels, length = x.shape
    if channels % 3:
        raise Refusal(f"rotation_std: the data has {channels} channels, not triads of axes; set rotation_std: 0")
    vector = (keyed_normal(key, samples, 3) * std).to(x.device)
    angle = vector.norm(dim=1, keepdim=True)
    axis = vector / angle.clamp(min=1e-12)
    sin, cos = torch.sin(angle[:, 0]), torch.cos(angle[:, 0])
    cross = torch.zeros(n, 3, 3, device=x.device)
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross = cross - cross.transpose(1, 2)
    rotation = (  # Rodrigues' formula
        torch.eye(3, device=x.device) + sin[:, None, None] * cross + (1 - cos)[:, None, None] * (cross @ cross)
    )
    return torch.einsum("nij,ngjt->ngit", rotation, x.view(n, channels // 3, 3, length)).reshape(n, channels, length)


def warp_time(x: Tensor, samples: Tensor, key: int, strength: float) -> Tensor:
    """Speed a window up here and slow it down there, by at most `strength`; its ends stay where they are."""
    n, channels, length = x.shape
    draw = keyed_uniform(key, samples, 3).to(x.device)
    speed = (2 * draw[:, 0:1] - 1) * strength
    waves = 1 + (draw[:, 1:2] > 0.5).float()  # one or two slow-downs in a window
    phase = 2 * math.pi * draw[:, 2:3]
    time = torch.arange(length, device=x.device) / max(length - 1, 1)  # 0 … 1
    angle = 2 * math.pi * waves
    warped = time + speed * (torch.sin(angle * time + phase) - torch.sin(phase)) / angle  # (n, t)
    position = (warped * (length - 1)).clamp(0, length - 1)
    left = position.floor().long().clamp(max=max(length - 2, 0))
    right = (left + 1).clamp(max=length - 1)
    weight = (position - left)[:, None, :]
    index = left[:, None, :].expand(n, channels, length), right[:, None, :].expand(n, channels, length)
    return torch.gather(x, 2, index[0]) * (1 - weight) + torch.gather(x, 2, index[1]) * weight


def mixup_draws(alpha: float, seed: int, epoch: int, n_samples: int) -> tuple[Tensor, Tensor]:
    """For every sample of an epoch: its weight, from Beta(alpha, alpha), and its partner (Zhang et al. 2018)."""
    generator = np.random.default_rng([seed, epoch])
    weight = torch.from_numpy(generator.beta(alpha, alpha, n_samples).astype(np.float32))
    return weight, torch.from_numpy(generator.permutation(n_samples))


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which torch shifts arithmetically."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
