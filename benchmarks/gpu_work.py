"""What the parts of `gpu.py` train: the networks that Rootstock ships, on random data on the device."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from strong_scaling import spec_of
from torch import Tensor, nn
from torch.nn import functional as F

from rootstock.engine.loop import PRECISIONS
from rootstock.engine.seeding import seed_step
from rootstock.tasks.activity.models import build_model
from rootstock.tasks.activity.presets import PRESETS
from rootstock.tasks.activity.specs import Model as Network
from rootstock.tasks.activity.trainee import window_loss
from rootstock.tasks.language_model.model import LanguageModel
from rootstock.tasks.language_model.settings import Model as Transformer

Tell = Callable[..., None]

LEARNING_RATE = 1e-3
WARM_UP = 5  # steps
VOCABULARY = 4096


@dataclass(frozen=True)
class Size:
    """How to make a model with the inputs and targets of one batch, and its summed loss."""

    make: Callable[[], tuple[nn.Module, Tensor, Tensor]]
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    is_small: bool  # a GPU has room for many at a time


def _windows(preset: str, batch: int, samples: int, outputs: int) -> Size:
    architecture, settings = PRESETS[preset]

    def make() -> tuple[nn.Module, Tensor, Tensor]:
        model = build_model(Network(architecture=architecture, settings=settings), 6, outputs)
        labels = torch.arange(batch) % max(2, outputs)
        targets = labels[:, None].float() if outputs == 1 else F.one_hot(labels, outputs).float()
        return model, torch.randn(batch, 6, samples), targets

    return Size(make, lambda model, x, y: window_loss(model(x), y, 0.0, None), is_small=True)


def _text(batch: int, shape: Transformer, vocabulary: int) -> Size:
    def make() -> tuple[nn.Module, Tensor, Tensor]:
        tokens = torch.randint(vocabulary, (batch, shape.context_length + 1))
        return LanguageModel(vocabulary, shape), tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    return Size(make, lambda model, x, y: model(x, y).sum(), is_small=False)


def _tiny_text() -> Size:
    return _text(2, Transformer(d_model=16, n_heads=2, n_layers=1, d_ff=32, context_length=8), 64)


SIZES: dict[str, Callable[[bool], Size]] = {  # True: a small one, for a CPU
    "test 64 × 6 × 3000": lambda quick: _windows("test", *((4, 32) if quick else (64, 3000)), 1),
    "pooled 64 × 6 × 200": lambda quick: _windows("pooled", *((4, 32) if quick else (64, 200)), 7),
    "language model 32 × 256": lambda quick: _tiny_text() if quick else _text(32, Transformer(), VOCABULARY),
}


class Work:
    """A model on a device and one batch for it, always the same."""

    def __init__(self, size: Size, device: torch.device, precision: str = "float32"):
        self.size, self.device, self.precision = size, device, precision
        seed_step(0, 0)
        model, x, y = size.make()
        self.model, self.x, self.y = model.to(device).train(), x.to(device), y.to(device)
        self.batch_size = len(x)

    def loss(self, model: nn.Module) -> Tensor:
        return self.size.loss(model, self.x, self.y)

    def renew(self, weights: dict[str, Tensor]) -> None:
        """Replace the model by a new one with these weights."""
        self.model = self.size.make()[0].to(self.device).train()
        self.model.load_state_dict(weights)

    def trainee(self, count: int) -> "WorkTrainee":
        return WorkTrainee(self, count)

    def spec(self) -> Any:
        return spec_of(self)


class WorkTrainee:
    """`count` steps on the batch, as a trainee of the engine's loop."""

    def __init__(self, work: Work, count: int):
        self.work, self.model, self.count, self.ended = work, work.model, count, 0.0
        self.rebuilds: dict[str, Any] = {}

    def batches(self, epoch: int) -> list[Tensor]:
        return [torch.arange(self.work.batch_size)] * self.count

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        return self.work.loss(model)

    def evaluate(self) -> dict[str, float]:
        """Costs nothing; notes when the last step was done."""
        synchronise(self.work.device)
        self.ended = time.perf_counter()
        return {"loss": 0.0}

    def train_mode(self) -> None:
        self.model.train()


def adamw_of(model: nn.Module, capturable: bool = False) -> torch.optim.Optimizer:
    """The engine's optimizer; a CUDA graph can capture it if `capturable`."""
    return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True, capturable=capturable)


def step_of(
    work: Work, model: nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None
) -> Callable[[], Tensor]:
    """A single training step like that of the engine's loop. It returns the mean loss, on the device."""
    wrapped, optimizer = model or work.model, optimizer or adamw_of(work.model)
    dtype, device = PRECISIONS[work.precision], work.device.type
    scaler = torch.amp.GradScaler(device, enabled=work.precision == "fp16")

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            loss = work.loss(wrapped) / work.batch_size
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def as_the_engine_does() -> None:
    """Deterministic kernels or an error, see `job.train`."""
    torch.set_deterministic_debug_mode("error")


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tell(what: str, **numbers: Any) -> None:
    """Print one row for `gpu.py` to read."""
    print(json.dumps({"what": what, **numbers}), flush=True)
