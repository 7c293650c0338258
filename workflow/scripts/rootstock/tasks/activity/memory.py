"""The memory that a training on windows takes: files that it maps, and a step of its network. Light: no torch."""

import os
from pathlib import Path
from typing import Any

from ...study.fingerprints import Fingerprints
from ...study.memory import Memory
from .dataset import SMARTWATCH_CHANNELS
from .folder import SPLITS, file_of, files_of
from .headers import shape_of
from .settings import Data
from .specs import BaseSpec, FinetuneSpec, Model

NUMBER = 4  # bytes of a float32
SMARTWATCH_SAMPLES = 30_000  # recorded per person
EVALUATED = 2**20  # values that are evaluated at a time, see `trainee`
KEPT, FROZEN = (
    8,
    2,
)  # tensors as large as a layer's output: itself, its norm, what is kept for the gradient, gradients
INPUTS, CHANGED = 4, 14  # copies of a batch of windows, without and with augmentation and mixup
DEEP = 64  # blocks that count: a study may ask for any number, but nothing is left of a window after these
OWN_WIDTH, OWN_PARAMETERS = 1024, 10_000_000  # assumed for a user's own class: more than any preset has


def memory_of(data: Data, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints) -> Memory:
    """Memory of a base training, or of a fine-tune on it. Faults of files are reported when the files are read."""
    spec = finetune or base
    channels, samples = _shape(data, base.participants[0], fingerprints)
    width, parameters = _network(base.model, channels)
    inputs = channels * (CHANGED if spec.use_augmentation else INPUTS)
    kept = FROZEN if finetune and finetune.mode == "last_layer_only" else KEPT
    sample = NUMBER * samples * (inputs + kept * width)
    at_once = max(1, EVALUATED // (channels * samples))
    return Memory(
        sum(_size(data, person, fingerprints) for person in _people(base, finetune)),
        parameters,
        spec.batch_size or 0,
        sample,
        at_once * sample / 3,
    )


def _people(base: BaseSpec, finetune: FinetuneSpec | None) -> tuple[str, ...]:
    """The people whose windows are read; the target counts twice, because a share of its windows is copied."""
    if finetune is None:
        return base.participants
    is_beside_others = finetune.mode in ("full_fine_tuning", "prototypes") or finetune.target_batch_pct
    others = base.participants if is_beside_others else ()
    return (*others, finetune.target, finetune.target)


def _size(data: Data, person: str, fingerprints: Fingerprints) -> float:
    """Bytes of a person's windows."""
    if data.path is None:
        assert data.window_size and data.window_stride
        windows = max(1.0, SMARTWATCH_SAMPLES / data.window_stride)
        return NUMBER * SMARTWATCH_CHANNELS * data.window_size * windows
    folder = Path(data.path)
    return fingerprints.once(f"size {data.path} {person}", lambda: sum(map(os.path.getsize, files_of(folder, person))))


def _shape(data: Data, person: str, fingerprints: Fingerprints) -> tuple[int, int]:
    """Channels and samples of a window; an assumption if the header of a person's file does not say."""
    if data.path is None:
        assert data.window_size
        return SMARTWATCH_CHANNELS, data.window_size
    file = file_of(Path(data.path), person, SPLITS[0])
    shape: Any = fingerprints.once(f"shape {data.path}", lambda: shape_of(file))
    return (shape[1], shape[2]) if shape and len(shape) == 3 else (12, data.window_size or 3000)


def _network(model: Model, channels: int) -> tuple[float, float]:
    """The outputs of a network's layers for each sample of a window, summed, and how many parameters it has."""
    told: Any = model.settings
    if model.architecture == "ConvBlocks":
        width, blocks = told["base_channels"], told["num_blocks"]
        deep = min(blocks, DEEP)
        lengths = [0.5 ** ((block + 1) // 2) for block in range(deep)]  # pooled after every other block
        wide = [width] * (deep - 1) + [2 * width]
        more = 2 if told["use_residual"] else 1
        return more * sum(map(_product, wide, lengths)), 3 * width * (channels + 2 * width * blocks)
    if model.architecture == "ResidualStack":
        return 32 + 3 * (64 / 2 + 128 / 4 + 256 / 8), 500_000
    if model.architecture == "PooledConvNet":
        width, blocks = told["base_channels"], told["num_blocks"]
        length = sum([1.0, 1.0, 0.5][:blocks]) + 0.25 * max(0, blocks - 3)
        return 1 + 1.6 * width * length / told["downsample"], 3 * width * (channels + width * blocks)
    return OWN_WIDTH, OWN_PARAMETERS


def _product(width: float, length: float) -> float:
    return width * length
