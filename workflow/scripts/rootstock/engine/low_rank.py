"""Low-rank updates of linear and convolution layers (LoRA, Hu et al. 2022): the layers are frozen, small updates are
learned."""

import math
from collections.abc import Collection
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ..study.problems import Refusal

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # not subclasses: how they use a weight is unknown
NAME = "low_rank_update"  # of the submodule in its layer

Weights = dict[str, Tensor]


class LowRank(nn.Module):
    """An addend to a layer's output: the output of the same layer with the weight scale · up · down and without bias.

    `down` [rank, ...] has the shape of the layer's weight [out, ...] except in the first dimension. `up` is [out, rank]
    and starts as zeros, so that an untrained update changes nothing.
    """

    scale: Tensor  # alpha / rank, saved with the weights, which mean nothing without it

    def __init__(self, weight: Tensor, rank: int, alpha: float):
        super().__init__()
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.register_buffer("scale", weight.new_tensor(alpha / rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as torch initialises a linear layer

    def forward(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, _ConvNd):
            return self.scale * self._convolved(layer, x)
        return self.scale * F.linear(F.linear(x, self.down), self.up)

    def _convolved(self, layer: _ConvNd, x: Tensor) -> Tensor:
        """Convolve with `down` per group of channels, then apply `up` at each position."""
        groups, n_axes = layer.groups, self.down.ndim - 2
        hidden = layer._conv_forward(x, self.down.repeat(groups, *[1] * (n_axes + 1)), None)  # (.., groups · rank, ..)
        batch, places = hidden.shape[: -n_axes - 1], hidden.shape[-n_axes:]
        hidden = hidden.reshape(*batch, groups, len(self.down), -1)  # (.., groups, rank, places)
        up = self.up.view(groups, -1, len(self.down))  # (groups, out / groups, rank)
        return (up @ hidden).reshape(*batch, -1, *places)


def add_low_rank(model: nn.Module, rank: int, alpha: float, names: Collection[str] | None = None) -> list[str]:
    """Freeze `model` and give updates to its linear and convolution layers, or only to those whose own name is in
    `names`.

    Return the paths of these layers. Existing weights keep their names. Raise `Refusal` if a name belongs to no such
    layer.
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
    """The same update inside the weight, for networks that use a layer's weight without calling the layer."""

    def forward(self, weight: Tensor) -> Tensor:  # type: ignore[override]
        return _added(weight, self.up, self.down, self.scale)


def add_to_weights(model: nn.Module, rank: int, alpha: float) -> list[str]:
    """Freeze `model` and put an update into the weight of every linear and convolution layer, whatever code uses the
    weight.

    Return the paths of these layers. `plainly_named` renames the weights as `add_low_rank` would name them.
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
    """Weights from `add_to_weights` under the names that `add_low_rank` gives; other weights keep theirs."""
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
    """Only the updates among the weights."""
    return {name: tensor for name, tensor in weights.items() if f".{NAME}." in f".{name}"}


def merged(weights: Weights) -> Weights:
    """The weights of the plain model that computes the same: each update added to its layer's weight, in a new tensor.
    Weights without an update stay the same tensors."""
    weights = plainly_named(weights)
    updates = update_of(weights)
    plain = {name: tensor for name, tensor in weights.items() if name not in updates}
    for path in (name.removesuffix("up") for name in updates if name.endswith(f"{NAME}.up")):
        weight = f"{path.removesuffix(f'{NAME}.')}weight"
        up, down, scale = (updates[f"{path}{part}"] for part in ("up", "down", "scale"))
        plain[weight] = _added(plain[weight], up, down, scale)
    return plain
