"""Fine-tunes without a gradient: class means of the last features, statistics of the target's windows. Loads torch."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ...study.problems import Refusal
from .data import Windows
from .models import Standardised, last_layer

NUMBERS_AT_ONCE = 2**20  # values that go through the network at a time
LEAST_SPREAD = 1e-4  # variance of a feature that never changes
NEVER = -1e6  # the logit of a class that nobody has


def calibrate(
    mode: str,
    model: Standardised,
    own: Windows,
    others: Windows | None,
    prior: float | None,
    say: Callable[[str], None],
) -> None:
    """Change `model` as the mode says, from the target's windows and, for prototypes, those of the base's people."""
    if mode == "normalise":
        normalise(model, own)
    else:
        set_prototypes(model, own, others or own, prior or 0.0, say)


@torch.no_grad()
def normalise(model: Standardised, own: Windows) -> None:
    """Set mean and sd of each channel and running statistics of BatchNorm layers from these windows, without labels."""
    model.learn_statistics(own.x.two_alike().to(model.mean.device))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    model.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all that it is shown
        layer.train()
    model(own.x.all().to(model.mean.device))  # all at once: the parts' mean deviation is not that of all
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()


@torch.no_grad()
def set_prototypes(
    model: Standardised, own: Windows, others: Windows, prior: float, say: Callable[[str], None]
) -> None:
    """Let the last layer find the nearest class mean (Snell et al. 2017), features in units of their sd within a class.

    The mean nearest in squared distance has the largest w · x + b with w = mean / variance and b = -mean² / (2
    variance), so the network keeps its architecture. A class mean is that of the target's n windows, together with the
    mean of the others, which counts as `prior` windows.
    """
    layer = last_layer(model)
    x, x_others = (features(model, windows) for windows in (own, others))
    if not isinstance(layer, nn.Linear) or x.dim() != 2:
        raise Refusal("mode: prototypes needs a network whose last layer is linear and sees one vector a window")
    n_classes = max(2, layer.out_features)
    (means, counts), (shared, n_shared) = _means(x, own.y, n_classes), _means(x_others, others.y, n_classes)
    if missing := torch.nonzero((counts == 0) & (n_shared > 0))[:, 0].tolist():
        say(f"prototypes: no window of class {', '.join(map(str, missing))}; the others' mean stands for it")
    weight = torch.where(counts == 0, 1.0, torch.where(n_shared == 0, 0.0, prior))[:, None]
    mixed = (counts[:, None] * means + weight * shared) / (counts[:, None] + weight).clamp(min=LEAST_SPREAD)
    variance = (x_others - shared[others.y.long()]).square().mean(0) + LEAST_SPREAD
    weights, bias = mixed / variance, -(mixed.square() / variance).sum(1) / 2
    bias[(counts == 0) & (n_shared == 0)] = NEVER if layer.out_features > 1 else 0.0
    if layer.out_features == 1:  # one logit: of the second class against the first
        weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
    if layer.bias is None:
        raise Refusal("mode: prototypes needs a network whose last layer has a bias")
    layer.weight.copy_(weights)
    layer.bias.copy_(bias)


def _means(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Mean features of each class [classes, features], zeros without windows, and its number of windows [classes]."""
    one_hot = torch.nn.functional.one_hot(y.long(), n_classes).to(x)
    counts = one_hot.sum(0)
    return one_hot.T @ x / counts.clamp(min=1)[:, None], counts


def features(model: Standardised, windows: Windows) -> Tensor:
    """The input of the last layer for each window, [N, features] float64 on the CPU."""
    return last_layer_inputs(model, _batches(model, windows))


def _batches(model: Standardised, windows: Windows) -> Iterator[Tensor]:
    at_once = max(1, NUMBERS_AT_ONCE // windows.x.shape[1:].numel())
    for start in range(0, len(windows), at_once):
        yield windows.x.between(start, min(start + at_once, len(windows))).to(model.mean.device)


def last_layer_inputs(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The input of the last layer, one vector per window [N, features]; an input over time is averaged."""
    seen: list[Tensor] = []
    layer = last_layer(model)
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().cpu()))
    try:
        with torch.no_grad():
            model.eval()
            for batch in batches:
                model(batch)
    finally:
        hook.remove()
    return torch.cat([one if one.dim() == 2 else one.flatten(2).mean(2) for one in seen]).double()
