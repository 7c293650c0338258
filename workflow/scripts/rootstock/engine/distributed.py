"""Several processes as one training: ranks, shares of a batch, and sums over all ranks."""

import ctypes
import os
import signal
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """The processes of one training. A world of one needs no communication and does none."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and decides."""
        return self.rank == 0

    def share(self, samples: Tensor) -> Tensor:
        """This rank's part of a global batch. The sizes of parts differ by one at most; a part may be empty."""
        return samples.tensor_split(self.size)[self.rank]

    def pieces(self, samples: Tensor, at_once: int | None) -> list[Tensor]:
        """This rank's part in pieces of `at_once` (None: one piece). Every rank has equally many pieces; the last may
        be empty."""
        largest = -(-len(samples) // self.size)
        most = at_once or max(largest, 1)
        mine = self.share(samples)
        return [mine[number * most : (number + 1) * most] for number in range(max(1, -(-largest // most)))]

    def sum(self, value: Tensor) -> Tensor:
        """The exact sum over ranks of counts (int64) or loss sums (float64), the same on every rank."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes; all ranks get the same answer, so none runs ahead into a deadlock."""
        if self.size == 1:
            return flag
        said = torch.tensor([int(flag)])
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return bool(said.item())

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, src=0)
        return told.item()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, wrapped so that backward averages gradients over ranks. On GPUs BatchNorm sees the global
        batch."""
        if self.size == 1:
            return model
        if next(model.parameters()).is_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)


def world_of_environment(device: torch.device, timeout_seconds: float, on_a_gpu: int = 1) -> World:
    """The world that torchrun describes in the environment, or a world of one. `on_a_gpu` processes share one GPU.

    Do not destroy the process group; end the process with `os._exit`, as `cli.run` does. In torch 2.13 the destructor
    of gloo's group holds the interpreter's lock while it waits for a thread that may wait for this lock.
    """
    if "RANK" not in os.environ:
        return World()
    die_with_parent()
    # Decisions and metrics are CPU tensors, gradients on GPUs are CUDA tensors. NCCL rejects two processes on one GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and on_a_gpu == 1 else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    return World(dist.get_rank(), dist.get_world_size())


def die_with_parent() -> None:
    """On Linux, end this process when its parent ends. A worker must stop writing when the holder of its lock is
    killed."""
    try:
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except OSError:
        return  # not Linux: torchrun ends its workers itself unless it is killed too
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
