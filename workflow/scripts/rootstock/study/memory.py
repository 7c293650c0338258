"""How much memory a training needs, estimated from its study before anything runs; rules request it from the scheduler.

Light: no torch.
"""

from dataclasses import dataclass

from .run import Run

MB = 2**20  # as Slurm counts
UNKNOWN = 4000  # MB, for a task that gives no estimate
LOADED = 450 * MB  # Python, torch and its libraries: 270 MB without CUDA, more with it
BESIDE = 200 * MB  # the Snakemake in a Slurm job
ON_GPU = 3000 * MB  # CUDA and its libraries, in main memory
COMPILING = 2000 * MB  # torch.compile and the compilers that it starts
# Bytes per parameter: weight, gradient, AdamW's two moments and the best weights; for a checkpoint, all of these except
# the gradient twice more.
PER_PARAMETER = 4 * (1 + 1 + 2 + 1 + 2 * 4)
PER_MEASURED = 4 * 3  # if nothing is trained: the weights are read, and written once more
SPARE = 1.25


@dataclass(frozen=True)
class Memory:
    """The estimated memory of a training in bytes; what is unknown is bounded from above."""

    data: float  # files mapped into memory: all processes share them, and Slurm counts their pages like others
    parameters: float  # their number
    batch_size: int  # samples per step, over all processes; 0: nothing is trained
    sample: float  # of one sample, its gradients included
    evaluation: float = 0.0  # of what is evaluated at a time
    loaded: float = LOADED
    recomputed: float | None = None  # of one sample with activation checkpointing

    def needed(self, run: Run) -> int:
        """MB on each node, for all processes there. On a GPU, a batch lies in GPU memory. While it is unknown whether
        there will be a GPU, the larger number counts."""
        share = -(-self.batch_size // run.processes_in_all)
        sample = self.recomputed if run.activation_checkpointing and self.recomputed else self.sample
        step = min(share, run.micro_batch_size or share) * sample
        on_cpu, on_gpu = max(step, self.evaluation), ON_GPU
        computing = {0: on_cpu, None: max(on_cpu, on_gpu)}.get(run.gpus_asked, on_gpu)
        compiling = COMPILING if run.compile else 0
        weights = self.parameters * (PER_PARAMETER if self.batch_size else PER_MEASURED)
        own = self.loaded + weights + computing + compiling
        return round(SPARE * (self.data + run.world_size * own) + BESIDE) // MB


def needed(memory: Memory | None, run: Run) -> int:
    """MB on each node, for all processes there, rounded up to hundreds."""
    return UNKNOWN if memory is None else -(-memory.needed(run) // 100) * 100
