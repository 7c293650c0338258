"""How a study is run: devices, processes, memory, checkpoints. Nothing here changes what is learned, nothing is hashed."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from .fields import Count, Natural, Positive, Section


class Run(Section):
    """The section `run` of a study."""

    device: Annotated[str, BeforeValidator(str)] = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?|\d+)$", description="auto, cpu, cuda, cuda:1 or a device number"
    )
    threads: Count = Field(1, description="CPU threads of one process; recorded, for bits may differ between counts")
    gpus: Natural | None = Field(
        None, description="GPUs of one training, on each node; 0: it sees none; null: one where there are any"
    )
    nodes: Count = Field(1, description="machines of one training; more than one needs Slurm")
    processes: Count | None = Field(
        None, description="processes of one training on each node; null: one a GPU, else one"
    )
    micro_batch_size: Count | None = Field(
        None, description="samples at a time in memory; null: the process's share of a batch"
    )
    compile: bool = Field(False, description="torch.compile the model; recorded, and kept when a training is resumed")
    tensorboard: bool = Field(False, description="curves for TensorBoard in logs/tensorboard/<hash>")
    batch_size_per_gpu: bool = Field(
        False, description="batch_size in the study is that of one process; the plan makes it the global one"
    )
    checkpoint_seconds: Positive | None = Field(60, description="seconds between checkpoints; null: none by time")
    checkpoint_steps: Count | None = Field(None, description="steps between checkpoints; null: none by steps")
    keep_checkpoints: Count | None = Field(
        None, description="steps between checkpoints that are kept for good, as checkpoint_step_<N>.pt; null: none"
    )
    collective_timeout: Positive = Field(
        1800, description="seconds that processes wait for each other before they give up"
    )
    wait_seconds: Positive | None = Field(
        None, description="seconds to wait for another process that trains the same model; null: as long as it takes"
    )
    sign_with: str | None = Field(
        None, description="a private Ed25519 key (.pem) that signs what is committed to the store; null: not signed"
    )
    trust: str | None = Field(
        None,
        description="a public Ed25519 key (.pem): base models that its owner did not sign are refused; null: all are taken",
    )

    def about(self) -> dict[str, Any]:
        """What is recorded of them: all but whose keys are used, which is each user's own matter."""
        return self.model_dump(exclude={"sign_with", "trust"})

    @property
    def world_size(self) -> int:
        """Processes of one training on one node."""
        return self.processes or max(self.gpus or 0, 1)

    @property
    def gpus_asked(self) -> int | None:
        """GPUs on each node; None leaves it to the profile, or to what this machine has."""
        return 0 if self.device == "cpu" else self.gpus

    def resources(self) -> dict[str, int | str]:
        """What a training asks of the scheduler beside threads, memory and time."""
        gpus = self.gpus_asked
        if self.nodes == 1:
            return {"nodes": 1} if gpus is None else {"nodes": 1, "gpu": gpus}
        if gpus == 0:
            return {"nodes": self.nodes, "gpu": 0, "tasks": self.nodes}
        gpus = gpus or 1  # Snakemake's plugin takes the sum over nodes; Slurm must not split it unevenly
        return {"nodes": self.nodes, "gpu": gpus * self.nodes, "slurm_extra": f"--gpus-per-node={gpus}"}
