"""Low-rank updates of linear and convolution layers (LoRA, Hu et al. 2022): the layers stay as they are, what is learned is beside them."""

import math
from collections.abc import Collection
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ..study.problems import Refusal

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # these very types: what others do with their weight is not known
NAME = "low_rank_update"  # as a part of its layer

Weights = dict[str, Tensor]


class LowRank(nn.Module):
    """What is added to a layer's output: that of the same layer with the weight scale · up · down and without bias.

    `down` [rank, ...] is of the shape of the layer's weight [out, ...] in all but the first dimension, `up` is [out, rank] and
    begins as zeros, so that an untrained update changes nothing.
    """

    scale: Tensor  # alpha / rank, a part of the weights: they mean nothing without it

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.register_buffer("scale", weight.new_tensor(alpha / rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as torch begins a linear layer

    def forward(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, _ConvNd):
            return self.scale * self._convolved(layer, x)
        return self.scale * F.linear(F.linear(x, self.down), self.up)

    def _convolved(self, layer: _ConvNd, x: Tensor) -> Tensor:
        """The convolution with `down` for each group of channels, then `up` at each place."""
        groups, n_axes = layer.groups, self.down.ndim - 2
        hidden = layer._conv_forward(x, self.down.repeat(groups, *[1] * (n_axes + 1)), None)  # (.., groups · rank, ..)
        batch, places = hidden.shape[: -n_axes - 1], hidden.shape[-n_axes:]
        hidden = hidden.reshape(*batch, groups, len(self.down), -1)  # (.., groups, rank, places)
        up = self.up.view(groups, -1, len(self.down))  # (groups, out / groups, rank)
        return (up @ hidden).reshape(*batch, -1, *places)


def add_low_rank(model: nn.Module, rank: int, alpha: float, names: Collection[str] | None = None) -> list[str]:
    """Freeze `model` and give an update to its linear and convolution layers, or to those whose own name is one of `names`.

    The paths of these layers. The names of all weights that were there stay. `Refusal` where a name is that of no such layer.
    """
    layers = {path: layer for path, layer in model.named_modules() if type(layer) in LAYERS}
    own_names = {path.rpartition(".")[2] for path in layers}
    if missing := sorted(set(names or ()) - own_names) or ([] if layers else ["any"]):
        raise Refusal(f"targets: no linear or convolution layer is called {missing[0]}; here {sorted(own_names)} are")
    chosen = [path for path in layers if names is None or path.rpartition(".")[2] in names]
    model.requires_grad_(False)
    for path in chosen:
        layer = layers[path]
        layer.add_module(NAME, LowRank(cast(Tensor, layer.weight), rank, alpha))
        layer.register_forward_hook(_with_update)
    return chosen


class _InWeight(LowRank):
    """The same as a part of the weight itself, for networks that use a layer's weight and do not call the layer."""

    def forward(self, weight: Tensor) -> Tensor:  # type: ignore[override]
        return _added(weight, self.up, self.down, self.scale)


def add_to_weights(model: nn.Module, rank: int, alpha: float) -> list[str]:
    """Freeze `model` and give an update to the weight of every linear and convolution layer, whoever uses it.

    The paths of these layers. `plainly_named` gives the weights the names that `add_low_rank` gives them.
    """
    layers = {path: layer for path, layer in model.named_modules() if type(layer) in LAYERS}
    if not layers:
        raise Refusal("mode: adapters needs a network with a linear or convolution layer")
    model.requires_grad_(False)
    for layer in layers.values():
        weight = cast(Tensor, layer.weight)
        parametrize.register_parametrization(layer, "weight", _InWeight(weight, rank, alpha))
    return list(layers)


def plainly_named(weights: Weights) -> Weights:
    """Weights of a model with updates inside its weights, under the names of one with updates beside its layers."""
    inside = "parametrizations.weight."
    return {
        name.replace(f"{inside}original", "weight").replace(f"{inside}0.", f"{NAME}."): tensor
        for name, tensor in weights.items()
    }


def _added(weight: Tensor, up: Tensor, down: Tensor, scale: Tensor) -> Tensor:
    return weight + scale * (up @ down.flatten(1)).view_as(weight)


def _with_update(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + cast(LowRank, getattr(layer, NAME))(layer, inputs[0])


def update_of(weights: Weights) -> Weights:
    """The updates alone."""
    return {name: tensor for name, tensor in weights.items() if f".{NAME}." in f".{name}"}


def merged(weights: Weights) -> Weights:
    """The weights of the plain model that computes the same: each update added to its layer's weight. New tensors where there
    is an update; without one the same weights."""
    weights = plainly_named(weights)
    updates = update_of(weights)
    plain = {name: tensor for name, tensor in weights.items() if name not in updates}
    for path in (name.removesuffix("up") for name in updates if name.endswith(f"{NAME}.up")):
        weight = f"{path.removesuffix(f'{NAME}.')}weight"
        up, down, scale = (updates[f"{path}{part}"] for part in ("up", "down", "scale"))
        plain[weight] = _added(plain[weight], up, down, scale)
    return plain
