"""How weights are optimised: the settings that every task shares and the engine understands."""

from typing import Literal

from pydantic import Field

from .fields import Count, Natural, NonNegative, Positive, Section


class Optimisation(Section):
    """Optimizer, schedule and early stopping. Each field changes weights, so each is part of a spec."""

    lr: Positive = Field(1e-3, description="learning rate of AdamW; the peak where there is a schedule")
    weight_decay: NonNegative = Field(0.01, description="decoupled weight decay of AdamW")
    batch_size: Count = Field(64, description="samples in a step, over all processes")
    max_epochs: Count = Field(100, description="passes over the training data at most")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "constant", description="learning rate over the steps of max_epochs"
    )
    gradient_clip: Positive | None = Field(None, description="largest norm of the gradient; null does not clip")
    early_stopping_patience: Count | None = Field(
        None, description="epochs without a strictly better value before training stops; null never stops early"
    )
    early_stopping_metric: Literal["loss", "f1"] = Field("loss", description="what chooses the best epoch")
    seed: Natural = Field(0, description="seed of initial weights, data order, dropout and augmentation")


class Run(Section):
    """How a study is run. Nothing here changes a weight and nothing here is hashed."""

    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?|\d+)$", description="auto, cpu, cuda, cuda:1 or a device number"
    )
    gpus: Natural = Field(0, description="GPUs of one training; the scheduler hands them out (0 on a machine without)")
    threads: Count = Field(1, description="CPU threads of one training; recorded, for bits may differ between counts")
