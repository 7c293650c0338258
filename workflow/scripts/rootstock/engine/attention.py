"""Which attention to train with: torch's fused kernel, or the three operations that it fuses."""

import torch

SHORT = 256  # tokens; measured: at 45 the plain operations take an eighth of the kernel's time, at 128 a third, at 512 twice


def plain_is_quicker(device: torch.device, dtype: torch.dtype, length: int) -> bool:
    """On CPUs the backward pass of torch's fused kernel (2.13) is slow in half precision where sequences are short."""
    return device.type == "cpu" and dtype != torch.float32 and length <= SHORT
