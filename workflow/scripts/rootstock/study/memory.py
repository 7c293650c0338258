"""How much memory a training needs, as far as its study tells before anything runs: what rules ask of a scheduler. Light: no torch."""

from dataclasses import dataclass

from .run import Run

MB = 2**20  # as Slurm counts
UNKNOWN = 4000  # MB, of a task that does not say
LOADED = 450 * MB  # Python, torch and its libraries: 270 without CUDA, which is larger
BESIDE = 200 * MB  # the Snakemake in a Slurm job
ON_GPU = 3000 * MB  # CUDA and its libraries, in the memory of the machine
COMPILING = 2000 * MB  # torch.compile and the compilers that it starts
# Bytes of a parameter: weight, gradient, AdamW's two moments, the best weights, and all of it but the gradient twice more in a checkpoint.
PER_PARAMETER = 4 * (1 + 1 + 2 + 1 + 2 * 4)
PER_MEASURED = 4 * 3  # of one that is not trained: it is read, and written once more
SPARE = 1.25


@dataclass(frozen=True)
class Memory:
    """What a training takes in bytes, about; what is unknown is bounded from above."""

    data: float  # files that it maps: all processes share them, and Slurm counts their pages like others
    parameters: float  # how many
    batch_size: int  # samples of a step, over all processes; 0: nothing is trained
    sample: float  # of one of them, its gradients included
    evaluation: float = 0.0  # what is measured at a time
    loaded: float = LOADED
    recomputed: float | None = None  # of a sample where the insides of blocks are computed again

    def needed(self, run: Run) -> int:
        """MB on each node, for all processes there. On a GPU a batch lies in that one's memory; where nobody knows yet whether
        there will be one, the larger number counts."""
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
    """MB on each node, for all processes there, in hundreds."""
    return UNKNOWN if memory is None else -(-memory.needed(run) // 100) * 100
