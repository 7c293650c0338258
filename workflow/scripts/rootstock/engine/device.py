"""The device that a process computes on. Which GPUs it sees is decided before, see `gpus`."""

import os

import torch

from ..study.problems import Refusal

ANY_GPU = ("auto", "cuda")  # devices that leave open which GPU


def pick_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or a number. Raise `Refusal` if there is no such GPU.

    With `auto` and `cuda`, each of several processes on a node takes the GPU of its own rank.
    """
    if wanted in ANY_GPU and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if wanted == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(f"cuda:{wanted}" if wanted.isdigit() else wanted)
    except RuntimeError:
        raise Refusal(f"device: {wanted} unknown; use auto, cpu, cuda, cuda:1 or a number") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Refusal(
            f"device: {wanted} is not there; this machine has {torch.cuda.device_count()} GPUs; use cpu or auto"
        )
    return device


def processes_on_a_gpu(wanted: str) -> int:
    """How many processes of this training share one GPU, from torchrun's environment on this node."""
    gpus = torch.cuda.device_count() if wanted in ANY_GPU else 1
    return -(-int(os.environ.get("LOCAL_WORLD_SIZE", 1)) // max(1, gpus))


def is_out_of_memory(error: Exception) -> bool:
    """Whether a GPU ran out of memory: in torch, or in CUDA and its libraries, which are recognised by their
    messages."""
    in_words = ("CUDA error: out of memory", "_ALLOC_FAILED")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in in_words)
