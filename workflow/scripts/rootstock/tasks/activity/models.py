"""Networks for windows of sensors. Each takes `(in_channels, n_outputs, **settings)` and maps [N, C, T] to [N, outputs]."""

import importlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...study.problems import Refusal
from ...study.told import own_place
from .specs import Model


class ConvBlocks(nn.Module):
    """The `test` preset: blocks of Conv1d k3 → LayerNorm over channels → ReLU → MaxPool2, then a global average.

    The last block doubles the channels; pooling follows the first block and then every other one, never the last.
    """

    def __init__(
        self,
        in_channels: int,
        n_outputs: int,
        base_channels: int,
        num_blocks: int,
        use_dilation: bool,
        use_residual: bool,
        dropout: float,
    ):
        super().__init__()
        widths = [in_channels] + [base_channels] * (num_blocks - 1) + [2 * base_channels]
        self.blocks = nn.ModuleList(
            ChannelNormBlock(
                widths[i],
                widths[i + 1],
                dilation=2**i if use_dilation else 1,
                residual=use_residual,
                pool=i % 2 == 0 and i < num_blocks - 1,
            )
            for i in range(num_blocks)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[-1], n_outputs)

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.dropout(x).mean(dim=2))


class ChannelNormBlock(nn.Module):
    """Conv1d k3 of the same length, LayerNorm over the channels of each time step (no affine), ReLU, maybe MaxPool2."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int, residual: bool, pool: bool):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.project = nn.Conv1d(in_channels, out_channels, 1) if residual and in_channels != out_channels else None
        self.residual, self.pool = residual, pool

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t)
        y = self.conv(x)
        y = F.relu(F.layer_norm(y.transpose(1, 2), y.shape[1:2]).transpose(1, 2))
        if self.residual:
            y = y + (x if self.project is None else self.project(x))
        return F.max_pool1d(y, 2) if self.pool else y


class ResidualStack(nn.Module):
    """The `medium` preset: a stem to 32 channels, three residual blocks to 256, about 0.5 million parameters."""

    def __init__(self, in_channels: int, n_outputs: int, dropout: float):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(in_channels, 32, 7, padding=3), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.blocks = nn.Sequential(ResidualBlock(32, 64, 5), ResidualBlock(64, 128, 5), ResidualBlock(128, 256, 3))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(256, n_outputs)

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t)
        return self.classifier(self.dropout(self.blocks(self.stem(x)).mean(dim=2)))


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm beside a 1×1 projection, then MaxPool2 (He et al. 2016, in one dimension)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
            nn.Conv1d(out_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(out_channels),
        )
        self.project = nn.Conv1d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool1d(F.relu(self.body(x) + self.project(x)), 2)


class PooledConvNet(nn.Module):
    """The `pooled` preset: slow movements seen at a low rate, and no statistics shared between people.

    Averaging the input down to 12.5 Hz, GroupNorm instead of BatchNorm, and the mean beside the maximum
    over time each helped people that the network had not seen; about 52,000 parameters with 64 channels and 6 inputs.
    """

    def __init__(
        self, in_channels: int, n_outputs: int, base_channels: int, num_blocks: int, downsample: int, dropout: float
    ):
        super().__init__()
        if base_channels % 8:
            raise ValueError(f"base_channels: {base_channels} is not a multiple of 8, the groups of its GroupNorm")
        self.downsample = downsample
        self.blocks = nn.Sequential()
        for i in range(num_blocks):
            width = in_channels if i == 0 else base_channels
            self.blocks.append(nn.Conv1d(width, base_channels, 3, padding=1, bias=False))
            self.blocks.append(nn.GroupNorm(8, base_channels))
            self.blocks.append(nn.ReLU())
            if i in (1, 2):
                self.blocks.append(nn.MaxPool1d(2))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * base_channels, n_outputs)

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t)
        x = self.blocks(F.avg_pool1d(x, self.downsample))
        return self.classifier(self.dropout(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)))


class Standardised(nn.Module):
    """A network behind the normalisation of its base training data; the statistics stay with the weights."""

    mean: Tensor  # [C, 1]
    std: Tensor  # [C, 1]

    def __init__(self, network: nn.Module, in_channels: int):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(in_channels, 1))
        self.register_buffer("std", torch.ones(in_channels, 1))

    def learn_statistics(self, windows: Tensor) -> None:
        """Mean and standard deviation of each channel over all windows [N, C, T]; a constant channel is only centred."""
        mean, std = windows.mean(dim=(0, 2)), windows.std(dim=(0, 2), correction=0)
        self.mean.copy_(mean[:, None])
        self.std.copy_(torch.where(std > 1e-8, std, 1.0)[:, None])

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t), as recorded
        return self.network((x - self.mean) / self.std)


def build_model(model: Model, in_channels: int, n_outputs: int) -> Standardised:
    """The network that a spec describes, with fresh weights from torch's global generator."""
    shown = f"model: {model.architecture} with {model.settings}"
    try:
        network = _own_class(model.architecture) if ":" in model.architecture else globals()[model.architecture]
        built = network(in_channels, n_outputs, **model.settings)
    except Exception as error:  # a user's own class may fail in any way
        raise Refusal(f"{shown} cannot be built: {type(error).__name__}: {error}{_where(error)}") from None
    if not isinstance(built, nn.Module) or not any(True for _ in built.parameters()):
        raise Refusal(f"{shown} is not a torch module with parameters")
    return Standardised(built, in_channels)


def try_out(model: Standardised, windows: Tensor, n_outputs: int) -> None:
    """One forward pass, so that a network that does not fit the windows is refused before it is trained."""
    was_training = model.training
    try:
        with torch.no_grad():
            shape = list(model.eval()(windows[:2]).shape)
    except Exception as error:  # a user's own class may fail in any way
        reason = (str(error).splitlines() or [""])[0]
        shown = f"{list(windows.shape[1:])}: {type(error).__name__}: {reason}{_where(error)}"
        raise Refusal(f"model: does not take windows of shape {shown}") from None
    if shape != [len(windows[:2]), n_outputs]:
        raise Refusal(f"model: gives outputs of shape {shape} for 2 windows; needs [2, {n_outputs}]")
    model.train(was_training)


def _where(error: Exception) -> str:
    place = own_place(error)
    return f" ({place})" if place else ""


def last_layer(network: nn.Module) -> nn.Module:
    """The layer that `last_layer_only` trains: the last linear or convolutional one in the order of definition."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv1d)]
    if not layers:
        raise Refusal("mode: last_layer_only needs a network with a linear or convolutional layer")
    return layers[-1]


def _own_class(path: str) -> type[nn.Module]:
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return getattr(importlib.import_module(module), name)
