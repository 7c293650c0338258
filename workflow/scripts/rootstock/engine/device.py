"""Which device a job computes on, and a lease so that local jobs do not share a GPU."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from ..study.problems import Refusal


def pick_device(wanted: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or a number; `Refusal` where such a GPU is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(f"cuda:{wanted}" if wanted.isdigit() else wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise Refusal(
            f"device: {wanted} is not there; this machine has {torch.cuda.device_count()} GPUs; use cpu or auto"
        )
    return device


@contextmanager
def leased_device(wanted: str, leases: Path, count: int | None = None) -> Iterator[torch.device]:
    """The device of this job. With `auto`, jobs of one machine each take a GPU of their own and wait while all are taken.

    A named device is not leased: several jobs may share it. Where Slurm has chosen, its choice is all that is visible.
    `count` stands for the number of visible GPUs in tests.
    """
    count = torch.cuda.device_count() if count is None else count
    if wanted != "auto" or count == 0 or "SLURM_JOB_ID" in os.environ:
        yield pick_device(wanted)
        return
    index, lease = _free_gpu(leases, count)
    try:
        yield torch.device("cuda", index)
    finally:
        lease.release()


def _free_gpu(leases: Path, count: int) -> tuple[int, FileLock]:
    """The first GPU whose lease is free, now or after a while. The kernel frees the lease of a process that dies."""
    leases.mkdir(parents=True, exist_ok=True)
    while True:
        for index in range(count):
            lease = FileLock(leases / f"{_gpu_name(index)}.lock")
            try:
                lease.acquire(timeout=0)
                return index, lease
            except Timeout:
                continue
        time.sleep(1)


def _gpu_name(index: int) -> str:
    """The machine's own number of a visible GPU, so that jobs with different CUDA_VISIBLE_DEVICES agree on it."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return f"gpu-{visible[index] if index < len(visible) else index}"
