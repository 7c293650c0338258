"""What a model needs of windows and labels: faults of a user's data that show only when it is read."""

from collections.abc import Mapping
from typing import Any

from ...study.problems import Refusal
from .data import Windows
from .specs import BaseSpec, FinetuneSpec


def n_classes_of(windows: Windows, spec: BaseSpec | FinetuneSpec) -> int:
    """The number of classes of the model. Raise `Refusal` for settings that are for the other kind of labels."""
    given, found = spec.data.n_classes, int(windows.y.max()) + 1
    if windows.is_binary:
        if given is not None:
            raise Refusal(f"data.n_classes: {given} is for int64 classes, the data has binary labels; remove it")
        return 2
    if spec.pos_weight is not None:
        raise Refusal(f"base.pos_weight: {spec.pos_weight} is for binary labels, the data has int64 classes; remove it")
    if given is not None and given < found:
        raise Refusal(f"data.n_classes: {given} is too few, the data has class {found - 1}; give at least {found}")
    return given or max(found, 2)


def n_outputs_of(windows: Windows, n_classes: int) -> int:
    return 1 if windows.is_binary else n_classes


def check_expectations(windows: Windows, expect: Mapping[str, Any]) -> None:
    wanted, found = expect.get("window_size"), windows.x.shape[2]
    if wanted not in (None, found):
        raise Refusal(
            f"data.window_size: {wanted} samples, but {windows.name} has windows of {found}; correct it or remove it"
        )


def check_parts(parts: Mapping[str, Windows], n_classes: int, whose: str) -> None:
    """Raise `Refusal` if a part of the data has a class that the model does not know."""
    for split, windows in parts.items():
        if int(windows.y.max()) >= n_classes:
            raise Refusal(
                f"data.n_classes: {whose} {split} windows have class {int(windows.y.max())}, "
                f"the model knows 0 to {n_classes - 1}; set data.n_classes"
            )
