"""Text and a transformer in the shape that the engine's loop trains."""

from typing import Any

import torch
from torch import Tensor, nn

from ...engine.progress import Context, Fitted
from .measure import Measure, documents_of, inputs_and_targets
from .model import LanguageModel
from .shards import TokenStream
from .specs import NOT_RESUMED, BaseSpec, FinetuneSpec, seen_until
from .tokenizer import boundary


class TextTrainee:
    """Text and a transformer, in the shape that the engine's loop trains. An epoch is what lies between two evaluations."""

    # With 4.5 million parameters, 2,048 tokens per step, Muon and one thread, compiling takes 21 to 29 s and saves 0.08
    # of 0.31 s per step (bf16) or 0.06 of 0.74 s (float32).
    repaid_after = 350

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: str,
        train: TokenStream,
        check: TokenStream,
        spec: BaseSpec | FinetuneSpec,
        context: Context,
    ):
        self.model, self.train, self.check, self.spec = model.to(context.device), train, check, spec
        self.context_length, self.device = spec.model.context_length, context.device
        self.unit, self.blocks = (self.context_length, "tokens"), self.model.blocks
        self.begun = spec.resumed_from or NOT_RESUMED
        self.boundary = boundary(tokenizer, spec.mask_documents)
        self.measure = Measure(self.model, self.context_length, spec.precision, context, self.boundary)
        self.rebuilds = {"tokenizer": tokenizer}
        self.passes: dict[int, Tensor] = {}

    def batches(self, epoch: int) -> list[Tensor]:
        """Window starts of each step of an epoch. Which windows a step sees does not depend on where epochs end."""
        first = self.begun.step - self.begun.batch + (epoch - self.begun.epoch) * self.spec.eval_every
        steps = range(first, min(first + self.spec.eval_every, self.spec.max_steps))
        seen = (self.begun.samples + (step - self.begun.step) * self.spec.batch_size for step in steps)
        return [self._windows(number) for number in seen]

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        x, y = inputs_and_targets(self.train, samples, self.context_length, self.device)
        return model(x, y, documents_of(x, self.boundary)) / self.context_length

    def evaluate(self) -> dict[str, Any]:
        return self.measure(self.check, self.spec.eval_tokens)

    def train_mode(self) -> None:
        self.model.train()

    def trained(self, fitted: Fitted) -> dict[str, Any]:
        """Step, passes over the text until then, and loss on the val set of the weights that are kept."""
        step, samples = seen_until(self.spec, fitted.best_epoch)
        loss = fitted.history[fitted.best_epoch - 1]["val_loss"]
        return {"step": step, "epoch": samples * self.context_length / len(self.train), "loss": loss}

    def _windows(self, first: int) -> Tensor:
        """Starts of `batch_size` windows, from number `first` on, in the endless sequence of passes."""
        per_pass = max(1, len(self.train) // self.context_length)
        starts, number = [], first
        while number < first + self.spec.batch_size:
            done, offset = divmod(number, per_pass)
            take = min(per_pass - offset, first + self.spec.batch_size - number)
            starts.append(self._pass(done, per_pass)[offset : offset + take])
            number += take
        return torch.cat(starts)

    def _pass(self, number: int, per_pass: int) -> Tensor:
        """All windows of one pass over the text, with an order and an offset of their own."""
        if number not in self.passes:
            generator = torch.Generator().manual_seed((self.spec.seed * 1_000_003 + number) & 0x7FFF_FFFF_FFFF_FFFF)
            shift = torch.randint(self.context_length, (1,), generator=generator)
            order = torch.randperm(per_pass, generator=generator)
            self.passes = {number: shift + order * self.context_length}
        return self.passes[number]
