"""Which device a process computes on. Which GPUs it sees at all is decided before, see `gpus`."""

import os

import torch

from ..study.problems import Refusal


def pick_device(wanted: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or a number; `Refusal` where such a GPU is not there.

    With `auto`, each of several processes on a node takes the GPU of its own rank.
    """
    if wanted == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    try:
        device = torch.device(f"cuda:{wanted}" if wanted.isdigit() else wanted)
    except RuntimeError:
        raise Refusal(f"device: {wanted} unknown; use auto, cpu, cuda, cuda:1 or a number") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Refusal(
            f"device: {wanted} is not there; this machine has {torch.cuda.device_count()} GPUs; use cpu or auto"
        )
    return device
