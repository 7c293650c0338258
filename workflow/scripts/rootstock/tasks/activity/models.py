"""Networks for windows of sensors. Each takes `(in_channels, n_outputs, **settings)` and maps [N, C, T] to [N, outputs]."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...study.own import own_class
from ...study.problems import Refusal
from ...study.told import own_place
from .presets import PRESET_CLASSES, require_source
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
        x = x.transpose(1, 2).contiguous()  # channels last, so that nothing is copied between layers
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.dropout(x).mean(dim=1))


class ChannelNormBlock(nn.Module):
    """Conv1d k3 of the same length, LayerNorm over the channels of a time step (no affine), ReLU, optional MaxPool2."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int, residual: bool, pool: bool):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.project = nn.Conv1d(in_channels, out_channels, 1) if residual and in_channels != out_channels else None
        self.residual, self.pool = residual, pool
        self.in_pairs = pool and not residual and dilation == 1

    def forward(self, x: Tensor) -> Tensor:  # (n, t, c)
        y: Tensor = CentredNormReLU.apply(self._convolved(x))  # type: ignore[assignment]  # torch gives it no type
        if self.residual:
            y = y + (x if self.project is None else _convolve(x, self.project.weight, self.project.bias))
        if self.in_pairs or not self.pool:
            return y
        y = y[:, : y.shape[1] // 2 * 2].unflatten(1, (-1, 2))  # (n, t / 2, 2, c)
        return torch.maximum(y[:, :, 0], y[:, :, 1])

    def _convolved(
        self, x: Tensor
    ) -> Tensor:  # (n, t, c) to (n, t, 1, k), or to (n, t / 2, 2, k) where pairs are pooled
        """The convolution minus the mean over its output channels, computed by centring its weights and bias."""
        assert self.conv.bias is not None
        weight, bias = (value - value.mean(0, keepdim=True) for value in (self.conv.weight, self.conv.bias))
        if not self.in_pairs:
            return _convolve(x, weight, bias, self.conv.dilation[0], self.conv.dilation[0])[:, :, None]
        both = torch.cat([F.pad(weight, (0, 1)), F.pad(weight, (1, 0))])  # two time steps at once, twice the channels
        return _convolve(x, both, torch.cat([bias, bias]), padding=1, stride=2).unflatten(2, (2, -1))


class CentredNormReLU(torch.autograd.Function):
    """LayerNorm (no affine) of centred values [N, T, P, C] over channels, ReLU, and the maximum over P (1 or 2 steps).

    Written out because torch's LayerNorm, ReLU and pooling take three times as long with few channels.
    """

    @staticmethod
    def forward(ctx: Any, centred: Tensor) -> Tensor:  # (n, t, p, c) to (n, t, c)
        with torch.autocast(centred.device.type, enabled=False):
            centred = centred.to(torch.promote_types(centred.dtype, torch.float32))
            scale = _mean_product(centred, centred).add_(1e-5).rsqrt_()  # (n, t, p, 1)
            y = centred * scale
            largest = F.relu(y[:, :, 0]) if y.shape[2] == 1 else torch.maximum(y[:, :, 0], y[:, :, 1]).relu_()
            ctx.save_for_backward(y, scale, largest)
        return largest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # (n, t, c) to (n, t, p, c)
        y, scale, largest = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grads[0], largest, 0)  # where ReLU let it through
        if y.shape[2] == 1:
            grad = grad[:, :, None]
        else:
            second = torch.ops.aten.threshold_backward(grad, y[:, :, 1] - y[:, :, 0], 0)
            grad = torch.stack([grad - second, second], dim=2)
        return grad.addcmul_(y, _mean_product(grad, y), value=-1).mul_(scale)


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    """The mean of a product over the last dimension, which is kept; torch's own is slower over few numbers."""
    n = a.shape[-1]
    return torch.mv((a * b).reshape(-1, n), a.new_full((n,), 1 / n)).view(*a.shape[:-1], 1)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 0, dilation: int = 1, stride: int = 1
) -> Tensor:
    """Conv1d of (n, t, c), computed in two dimensions, for which there are kernels that take channels last."""
    x, weight = x.transpose(1, 2)[:, :, None], weight[:, :, None]
    y = F.conv2d(x, weight, bias, (1, stride), (0, padding), (1, dilation))
    return y.squeeze(2).transpose(1, 2)


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
        x = F.avg_pool1d(x, self.downsample)[:, :, None].contiguous(memory_format=torch.channels_last)
        for layer in self.blocks:  # in two dimensions: those kernels take channels last, and two thirds of the time
            if isinstance(layer, nn.Conv1d):
                x = F.conv2d(x, layer.weight[:, :, None], padding=(0, 1))
            else:
                x = F.max_pool2d(x, (1, 2)) if isinstance(layer, nn.MaxPool1d) else layer(x)
        return self.classifier(self.dropout(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)))


class Standardised(nn.Module):
    """A network behind a normalisation by the statistics of its base training data, which stay with the weights."""

    mean: Tensor  # [C, 1]
    std: Tensor  # [C, 1]

    def __init__(self, network: nn.Module, in_channels: int):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(in_channels, 1))
        self.register_buffer("std", torch.ones(in_channels, 1))

    def learn_statistics(self, windows: Tensor) -> None:
        """Set mean and sd of each channel from all windows [N, C, T]; a constant channel is only centred."""
        mean, std = windows.mean(dim=(0, 2)), windows.std(dim=(0, 2), correction=0)
        self.mean.copy_(mean[:, None])
        self.std.copy_(torch.where(std > 1e-8, std, 1.0)[:, None])

    def forward(self, x: Tensor) -> Tensor:  # (n, c, t), as recorded
        return self.network((x - self.mean) / self.std)


def build_model(model: Model, in_channels: int, n_outputs: int) -> Standardised:
    """The network that a spec describes, with fresh weights from torch's global generator."""
    shown = f"model: {model.architecture} with {model.settings}"
    try:
        built = _network_class(model)(in_channels, n_outputs, **model.settings)
    except Refusal:
        raise
    except (Exception, SystemExit) as error:  # a user's own class may fail in any way
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


def _where(error: BaseException) -> str:
    place = own_place(error)
    return f" ({place})" if place else ""


def last_layer(network: nn.Module) -> nn.Module:
    """The layer that `last_layer_only` trains: the last linear or convolutional one in the order of definition."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv1d)]
    if not layers:
        raise Refusal("mode: last_layer_only needs a network with a linear or convolutional layer")
    return layers[-1]


def _network_class(model: Model) -> type[nn.Module]:
    """The class of a preset, or a user's own class with the code that its spec names."""
    if model.architecture in PRESET_CLASSES:
        return globals()[model.architecture]
    require_source(model)
    return own_class(model.architecture, nn.Module)
