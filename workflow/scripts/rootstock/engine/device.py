"""Which device a job computes on, and a lease so that local jobs do not share a GPU."""

import os
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
def leased_device(wanted: str, leases: Path, visible_gpus: int | None = None) -> Iterator[torch.device]:
    """The device of this job. `auto` on a machine with several GPUs takes one that no other local job has leased.

    Where a scheduler has set CUDA_VISIBLE_DEVICES the choice is its own. When all are taken the least loaded is not
    guessed: the first is shared, for Snakemake's `gpu` resource already limits how many jobs run.
    """
    count = torch.cuda.device_count() if visible_gpus is None else visible_gpus
    if wanted != "auto" or count < 2 or "SLURM_JOB_ID" in os.environ:
        yield pick_device(wanted)
        return
    leases.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        lease = FileLock(leases / f"gpu{index}.lock")
        try:
            lease.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield torch.device("cuda", index)
        finally:
            lease.release()
        return
    yield torch.device("cuda", 0)
