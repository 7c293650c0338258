"""Windows and a network in the form that the engine's loop trains, and how a network is measured."""

import json
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...engine.batches import even_batches
from ...engine.metrics import classification_metrics, confusion_counts
from ...engine.progress import Context
from ...study.identity import canonical
from .augment import Augmentation, epoch_key, mixup_draws
from .batches import composed_batches
from .data import Windows
from .labels import n_outputs_of
from .models import Standardised
from .specs import BaseSpec, FinetuneSpec, Model

NUMBERS_AT_ONCE = (2**20, 2**25)  # values evaluated at a time: on a CPU, on a GPU


class Measure:
    """Metrics of a model on windows; the loss is the plain one, without smoothing or augmentation."""

    def __init__(self, model: nn.Module, n_classes: int, context: Context, pos_weight: float | None):
        self.model, self.n_classes, self.pos_weight = model, n_classes, pos_weight
        self.device, self.world = context.device, context.world

    def __call__(self, windows: Windows) -> dict[str, Any]:
        return self.together(self.counted(windows))

    @torch.inference_mode()
    def counted(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """Counts [actual, predicted] and summed loss of this rank's share of the windows."""
        self.model.eval()
        counts = torch.zeros(self.n_classes, self.n_classes, dtype=torch.int64, device=self.device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        for piece in self._pieces(windows):
            x, y = windows.x.between(piece.start, piece.stop).to(self.device), windows.y[piece.start : piece.stop]
            logits, y = self.model(x), y.to(self.device)
            loss_sum += window_loss(logits, _soft(y, self.n_classes), 0.0, self.pos_weight)
            counts += confusion_counts(_predicted(logits), y.long(), self.n_classes)
        return counts, loss_sum

    def together(self, *found: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """Metrics of several counted sets of windows as one set, over all ranks."""
        counts, loss_sum = (torch.stack(values).sum(0).cpu() for values in zip(*found, strict=True))
        return classification_metrics(self.world.sum(counts), self.world.sum(loss_sum).item())

    def _pieces(self, windows: Windows) -> list[range]:
        """This rank's windows in pieces of a fast size: large on a GPU, smaller than a cache on a CPU."""
        at_once = max(1, NUMBERS_AT_ONCE[self.device.type == "cuda"] // windows.x.shape[1:].numel())
        mine = self.world.share(torch.arange(len(windows))).tolist()
        return [range(start, min(start + at_once, mine[-1] + 1)) for start in mine[::at_once]]


class WindowTrainee:
    """Windows and a network, in the form that the engine's loop trains."""

    def __init__(
        self,
        model: Standardised,
        architecture: Model,
        train: Windows,
        check: Windows,
        spec: BaseSpec | FinetuneSpec,
        n_classes: int,
        context: Context,
        n_base: int = 0,
    ):
        self.model, self.spec, self.n_classes, self.n_base = model.to(context.device), spec, n_classes, n_base
        self.device = context.device
        self.x, self.y = train.x.to(self.device, context.gpu_share), train.y
        self.targets = _soft(train.y, n_classes).to(self.device)
        self.check = replace(check, x=check.x.to(self.device, context.gpu_share))
        self.rebuilds = {
            "architecture": json.loads(canonical(architecture)),
            "in_channels": train.x.shape[1],
            "n_outputs": n_outputs_of(train, n_classes),
            "n_classes": n_classes,
            "binary": train.is_binary,
        }
        self.measure = Measure(self.model, n_classes, context, spec.pos_weight)
        self.augmentation = _augmentation(spec)
        self.mixup: tuple[int, Tensor, Tensor] | None = None

    def batches(self, epoch: int) -> list[Tensor]:
        """Batches in a new order each epoch, as even as possible; `target_batch_pct` mixes base and target in each."""
        generator = torch.Generator().manual_seed(epoch_key(self.spec.seed, epoch))
        share = getattr(self.spec, "target_batch_pct", None)
        if share is None:
            return even_batches(torch.randperm(len(self.y), generator=generator), self.spec.batch_size)
        return composed_batches(self.n_base, len(self.y) - self.n_base, self.spec.batch_size, share, generator)

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        x, target = self._inputs(samples, epoch)
        if alpha := self.spec.mixup_alpha:
            weight, partner = self._mixup(alpha, epoch, samples)
            other_x, other_target = self._inputs(partner, epoch)
            weight = weight.to(self.device)
            x = weight[:, None, None] * x + (1 - weight[:, None, None]) * other_x
            target = weight[:, None] * target + (1 - weight[:, None]) * other_target
        return window_loss(model(x), target, self.spec.label_smoothing, self.spec.pos_weight)

    def evaluate(self) -> dict[str, Any]:
        return self.measure(self.check)

    def train_mode(self) -> None:
        """Set train mode; frozen parts, and BatchNorm if the spec says so, keep behaving as in the base model."""
        self.model.train()
        if getattr(self.spec, "mode", None) in ("last_layer_only", "adapters"):
            self.model.eval()
        elif getattr(self.spec, "freeze_batch_norm", None):
            for layer in self.model.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    def _inputs(self, samples: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        x = self.x.take(samples)  # a copy, which may be changed
        if self.augmentation:
            x = self.augmentation(x, self.model.std, samples, epoch_key(self.spec.seed, epoch))
        return x, self.targets[samples.to(self.device)]

    def _mixup(self, alpha: float, epoch: int, samples: Tensor) -> tuple[Tensor, Tensor]:
        if self.mixup is None or self.mixup[0] != epoch:
            self.mixup = (epoch, *mixup_draws(alpha, self.spec.seed, epoch, len(self.y)))
        return self.mixup[1][samples], self.mixup[2][samples]


def window_loss(logits: Tensor, target: Tensor, smoothing: float, pos_weight: float | None) -> Tensor:
    """Summed loss of logits [N, outputs] against soft targets [N, outputs]: BCE for one logit, else cross entropy."""
    if logits.shape[1] == 1:
        target = target * (1 - smoothing) + smoothing / 2
        weight = None if pos_weight is None else torch.tensor(pos_weight, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="sum")
    return F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")


def _augmentation(spec: BaseSpec | FinetuneSpec) -> Augmentation | None:
    if not spec.use_augmentation:
        return None
    changes = [spec.aug_prob, spec.jitter_std, spec.magnitude_range, spec.time_warp, spec.rotation_std]
    return Augmentation(*cast(list[Any], changes))  # all are given, see `specs`


def _predicted(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _soft(y: Tensor, n_classes: int) -> Tensor:
    """Targets as the loss wants them: [N, 1] of 0/1 for one logit, else one-hot [N, classes]."""
    return y[:, None].float() if y.is_floating_point() else F.one_hot(y, n_classes).float()
