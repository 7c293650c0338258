"""How much of a person's training windows a fine-tune sees: a share, or a number per class. Loads torch."""

from collections.abc import Callable

import torch

from .data import Windows, spread_order, take_share
from .specs import FinetuneSpec


def own_windows(spec: FinetuneSpec, train: Windows, n_classes: int, say: Callable[[str], None]) -> Windows:
    """The target's windows that a fine-tune learns from; `say` reports classes with too few windows."""
    if spec.target_shots is None:
        assert spec.target_data_pct is not None  # every mode that trains has one
        return take_share(train, spec.target_data_pct, spec.seed)
    counts = torch.bincount(train.y.long(), minlength=n_classes).tolist()
    if short := [f"{count} of class {label}" for label, count in enumerate(counts) if count < spec.target_shots]:
        say(f"target_shots: {spec.target} has fewer than {spec.target_shots} training windows: {', '.join(short)}")
    return take_shots(train, spec.target_shots, spec.seed)


def take_shots(windows: Windows, shots: int, seed: int) -> Windows:
    """`shots` windows of each class, or all if there are fewer: seeded, nested, spread over the order in the file."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in windows.y.unique():
        members = torch.nonzero(windows.y == label).squeeze(1)
        start = torch.rand(1, generator=generator).item()
        chosen.append(members[spread_order(len(members), start)[:shots]])
    return windows.take(torch.cat(chosen).sort().values)
