"""One line that says what to set when a training does not fit into a GPU's memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..engine.device import is_out_of_memory, processes_on_a_gpu
from ..study.problems import Refusal
from ..study.run import Run
from .gpus import trainings_on_a_gpu

OF_CUDA = 600 * 2**20  # bytes, about, that CUDA and its libraries take in each process; torch does not count them
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@contextmanager
def refused_if_too_large(run: Run, device: torch.device) -> Iterator[None]:
    """Make `device` the default of CUDA; raise `Refusal` if the training inside runs out of memory."""
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise Refusal(_what_to_set(run, device, str(error).splitlines()[0])) from None


def _what_to_set(run: Run, device: torch.device, said: str) -> str:
    """The number of trainings that fit, if several share a GPU and fewer would fit; else the advice to take fewer samples at
    a time."""
    several, total = trainings_on_a_gpu(run), torch.cuda.get_device_properties(device).total_memory
    needed = processes_on_a_gpu(run.device) * (torch.cuda.max_memory_reserved(device) + asked_in_vain(said) + OF_CUDA)
    if fit := min(several - 1, total // needed):
        return (
            f"run.trainings_per_gpu: {several} do not fit into the {_gib(total)} of {device}: this training needs "
            f"{_gib(needed)} or more; set {fit}, or a smaller run.micro_batch_size, the result stays the same"
        )
    return (
        f"run.micro_batch_size: {run.micro_batch_size or 'all'} samples at a time do not fit into the memory of "
        f"{device}; set a smaller one, the result stays the same ({said})"
    )


def asked_in_vain(said: str) -> int:
    """Bytes that torch could not get, from its message; 0 if the message names none."""
    found = re.search(r"Tried to allocate ([\d.]+) (bytes|[KMG]iB)", said)
    return round(float(found[1]) * UNITS[found[2]]) if found else 0


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
