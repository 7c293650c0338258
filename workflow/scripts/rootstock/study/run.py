"""How a study is run: devices, processes, memory, checkpoints. Nothing here changes what is learned or is hashed."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .fields import Count, Natural, PathText, Positive, Section

Tracking = Literal["mlflow", "wandb", "trackio"]


class Run(Section):
    """The section `run` of a study."""

    # `default=` as a keyword tells a type checker that `Run()` lacks nothing.

    device: Annotated[str, BeforeValidator(str)] = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|\d+)$",
        description="auto, cpu, cuda, cuda:1 or a number; with auto each local job takes a GPU of its own",
    )
    threads: Count = Field(
        default=1,
        description="CPU threads of one process; recorded, because other counts give other last bits, and kept when a training resumes",
    )
    gpus: Natural | None = Field(
        default=None,
        description="GPUs of one training on each node, and as many processes; 0: it sees none (default: one where there are any)",
    )
    trainings_per_gpu: Count = Field(
        default=1,
        description="trainings at a time on one GPU, each with its own `threads`: of this machine; on Slurm, where a base model has its GPU alone, of the fine-tunes in one job",
    )
    nodes: Count = Field(default=1, description="nodes of one training, on Slurm: one torchrun on each")
    processes: Count | None = Field(
        default=None,
        description="processes of one training on each node, where that is not its number of GPUs (default: one a GPU, else 1)",
    )
    micro_batch_size: Count | None = Field(
        default=None,
        description="samples at a time in memory: smaller saves memory and changes only last bits (default: the process's share of a batch)",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="compute the inside of each block of a network twice rather than keep it: less memory, more time, the same bits; for language models",
    )
    shard: bool = Field(
        default=False,
        description="several processes hold a part each of weights, gradients and optimizer (FSDP2), not all of them (DDP); changes only last bits; for language models",
    )
    compile: bool | Literal["auto"] = Field(
        default=False,
        description="torch.compile the model (on CPUs it needs g++); auto: where a training's steps repay it, which was measured on CPUs alone; recorded, and kept when a training resumes",
    )
    warm: bool = Field(
        default=True,
        description="jobs of one machine are forked from a process that has torch loaded, which changes no bit; false: each loads it",
    )
    tensorboard: bool = Field(
        default=False,
        description="curves for TensorBoard in logs/tensorboard/<hash>; needs .venv/bin/pip install tensorboard",
    )
    tracker: Tracking | None = Field(
        default=None,
        description="mlflow, wandb or trackio: each training is a run there, through its own client, which reads its own environment variables; needs .venv/bin/pip install of it (default: none)",
    )
    batch_size_per_gpu: bool = Field(
        default=False,
        description="true: batch_size in the study is that of one process; the plan makes it the global one and says so",
    )
    log_seconds: Positive | None = Field(
        default=15,
        description="seconds between lines of step, loss, learning rate, gradient norm, pace and memory in a training's log, for status.py and TensorBoard; null: only where it is evaluated",
    )
    checkpoint_seconds: Positive | None = Field(
        default=60, description="seconds between checkpoints of a running training; null: none by time"
    )
    checkpoint_steps: Count | None = Field(
        default=None, description="steps between checkpoints (default: none by steps)"
    )
    keep_checkpoints: Count | None = Field(
        default=None,
        description="steps between checkpoints that are kept for good, as <store>/<hash>/checkpoint_step_<N>.pt (default: none)",
    )
    collective_timeout: Positive = Field(
        default=1800, description="seconds that processes wait for each other before they stop"
    )
    wait_seconds: Positive | None = Field(
        default=None,
        description="seconds to wait for another process that trains the same model (default: as long as it takes)",
    )
    sign_with: PathText | None = Field(
        default=None,
        description="a private Ed25519 key (.pem) that signs what is committed to the store; needs requirements-signing.txt (default: not signed)",
    )
    trust: PathText | None = Field(
        default=None,
        description="a public Ed25519 key (.pem): base models that its owner did not sign are refused, and whatever other users wrote (default: all are taken)",
    )

    def about(self) -> dict[str, Any]:
        """The settings that are recorded: all except the signing keys, which are each user's own matter."""
        return self.model_dump(exclude={"sign_with", "trust"})

    @property
    def told(self) -> str:
        """All settings as JSON, for a job. Nulls are included, because a setting may have another default than null."""
        return self.model_dump_json()

    @property
    def start(self) -> str:
        """The flag that says how a job starts."""
        return "warm" if self.warm else "no-warm"

    @property
    def at_once(self) -> int:
        """How many fine-tunes of one Slurm job run at a time: only a GPU is shared."""
        return 1 if self.gpus_asked == 0 else self.trainings_per_gpu

    @property
    def world_size(self) -> int:
        """Processes of one training on one node."""
        return self.processes or max(self.gpus or 0, 1)

    @property
    def processes_in_all(self) -> int:
        """Processes of one training, over all its nodes."""
        return self.world_size * self.nodes

    @property
    def gpus_asked(self) -> int | None:
        """GPUs on each node; None leaves it to the profile, or to what this machine has."""
        return 0 if self.device == "cpu" else self.gpus

    def resources(self) -> dict[str, int | str]:
        """What a training requests from the scheduler besides threads, memory and time."""
        gpus = self.gpus_asked
        if self.nodes == 1:
            return {"nodes": 1} if gpus is None else {"nodes": 1, "gpu": gpus}
        if gpus == 0:
            return {"nodes": self.nodes, "gpu": 0, "tasks": self.nodes}
        gpus = gpus or 1  # Snakemake's plugin takes the sum over nodes; Slurm must not split it unevenly
        return {"nodes": self.nodes, "gpu": gpus * self.nodes, "slurm_extra": f"--gpus-per-node={gpus}"}
