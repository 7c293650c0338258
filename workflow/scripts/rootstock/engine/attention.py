"""The choice of attention to train with: torch's fused kernel, or the three operations that it fuses."""

import torch

SHORT = 256  # tokens; measured: the plain operations take 1/8 of the kernel's time at 45 tokens, 1/3 at 128, twice its time at 512


def plain_is_quicker(device: torch.device, dtype: torch.dtype, length: int) -> bool:
    """Whether the plain operations win: on CPUs the fused kernel's backward pass (torch 2.13) is slow for short half
    precision."""
    return device.type == "cpu" and dtype != torch.float32 and length <= SHORT
