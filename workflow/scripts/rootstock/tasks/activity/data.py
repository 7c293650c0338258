"""Windows on disk: `{participant}_{train,val,test}.pt` holds (X float32 [N, channels, samples], y [N])."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...engine.files import load_mapped
from ...engine.rows import Rows
from ...study.problems import Refusal
from .folder import file_of
from .recordings import fault_of_recording, together

MOST_CLASSES = 10_000

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Windows of some people. y holds int64 class indices, or float 0/1 for two classes and one logit."""

    x: Rows  # float32 [N, channels, samples], as recorded
    y: Tensor  # [N]
    name: str = "the data"
    files: tuple[tuple[Path, Stamp], ...] = ()  # from which windows are read while they are used
    recording: Tensor | None = None  # int64 [N]: which recording of the person each is from, if known

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_binary(self) -> bool:
        return self.y.is_floating_point()

    def take(self, index: Tensor) -> "Windows":
        recording = None if self.recording is None else self.recording[index]
        return Windows(Rows([self.x.take(index)]), self.y[index], self.name, recording=recording)

    def require_unchanged(self) -> None:
        """Raise `Refusal` if a file changed while its windows were used."""
        for path, stamp in self.files:
            if _stamp(path) != stamp:
                raise Refusal(f"{path}: changed while it was read; run again, and leave data alone that is trained on")


def read_windows(
    folder: str | Path, participant: str, split: str, say: Callable[[str], None] = lambda _: None
) -> Windows:
    """The windows of one file. Raise `Refusal` if shape, dtype, values or labels are wrong, or if there is no window.

    The windows stay on disk until they are used, if the file's format allows that.
    """
    path = file_of(Path(folder), participant, split)
    stamp = _stamp(path)
    content = load_mapped(path, say)
    if not (
        isinstance(content, tuple | list) and len(content) in (2, 3) and all(isinstance(t, Tensor) for t in content)
    ):
        raise Refusal(
            f"{path}: needs a tuple (X, y) of two tensors, not {_kind_of(content)}; save torch.tensor(…) of each"
        )
    x, y, *more = (tensor.detach() for tensor in content)  # without the graph that computed them
    fault = _fault(x, y) or (fault_of_recording(more[0], y) if more else None)
    if fault:
        raise Refusal(f"{path}: {fault}")
    return Windows(Rows([x]), y.clone(), str(path), ((path, stamp),), more[0].clone() if more else None)


def read_people(
    folder: str | Path, people: tuple[str, ...], splits: tuple[str, ...], say: Callable[[str], None] = lambda _: None
) -> Windows:
    """The windows of several people and splits as one set, in the order given; all must be of one kind."""
    return join(*(read_windows(folder, person, split, say) for person in people for split in splits))


def join(*parts: Windows) -> Windows:
    """All windows of several sets as one set, not copied. Raise `Refusal` if their shapes or kinds of label differ."""
    first = parts[0]
    for part in parts[1:]:
        if part.x.shape[1:] != first.x.shape[1:] or part.y.dtype != first.y.dtype:
            raise Refusal(
                f"{part.name}: windows {list(part.x.shape[1:])} and labels {part.y.dtype}, but {first.name} has "
                f"{list(first.x.shape[1:])} and {first.y.dtype}; prepare all people alike"
            )
    x = Rows([tensor for part in parts for tensor in part.x.parts])
    files = tuple(chain(*(p.files for p in parts)))
    return Windows(x, torch.cat([p.y for p in parts]), first.name, files, together([p.recording for p in parts]))


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """An order of all windows whose every beginning is stratified, so that a larger share contains a smaller one.

    Each window gets a rank within its class; windows are sorted by rank / class size. Ranks spread over the
    order in the file, which is the order of recordings and of time: the second window of a class lies half a class away
    from the first, so that even a few windows come from several recordings.
    """
    generator = torch.Generator().manual_seed(seed)
    position = torch.empty(len(y), dtype=torch.float64)
    for label in y.unique():
        members = torch.nonzero(y == label).squeeze(1)
        start = torch.rand(1, generator=generator).item()
        tie = torch.rand(1, generator=generator).item()  # varies the order of classes of equal size
        for rank, member in enumerate(spread_order(len(members), start)):
            position[members[member]] = (rank + tie) / len(members)
    return torch.argsort(position, stable=True)


def spread_order(n: int, start: float) -> list[int]:
    """The numbers 0 … n-1, ordered so that every beginning is spread evenly: van der Corput's sequence from `start`."""
    order: dict[int, None] = {}
    for k in range(1 << max(n - 1, 1).bit_length() + 1):
        fraction = int(f"{k:b}"[::-1], 2) / (1 << k.bit_length())
        order.setdefault(int((fraction + start) % 1 * n))
    return list(order) + [i for i in range(n) if i not in order]


def take_share(windows: Windows, share: float, seed: int) -> Windows:
    """A `share` of the windows, rounded to a whole number, at least one: stratified, nested and seeded."""
    count = max(1, round(share * len(windows)))
    if count == len(windows):
        return windows
    return windows.take(stratified_order(windows.y, seed)[:count].sort().values)


def _stamp(path: Path) -> Stamp:
    """What changes when a file changes; empty if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _fault(x: Tensor, y: Tensor) -> str | None:
    if any(tensor.layout != torch.strided or tensor.is_nested for tensor in (x, y)):
        return "holds sparse or nested tensors; needs dense ones"
    if x.is_meta or y.is_meta:
        return "holds tensors on the device meta, which have no values; save them from the CPU"
    if x.dim() != 3:
        return f"X has shape {list(x.shape)}; needs [N, channels, samples]"
    if x.dtype != torch.float32:
        return f"X is {x.dtype}; needs float32: save X.float()"
    if y.dim() != 1 or len(y) != len(x):
        return f"y has shape {list(y.shape)} beside {len(x)} windows; needs [N]"
    if len(x) == 0:
        return "holds no window; needs at least one"
    if 0 in x.shape:
        return f"X has shape {list(x.shape)}; needs channels and samples"
    if x.numel() * x.element_size() > x.untyped_storage().nbytes():
        return f"X is a view that repeats values, of shape {list(x.shape)}; save X.clone()"
    return _fault_of_values(x) or _fault_of_labels(y)


def _fault_of_values(x: Tensor) -> str | None:
    """Which windows hold NaN or infinite values, if any. All are scanned once; only a fault needs a closer look."""
    if all(torch.isfinite(torch.stack(torch.aminmax(piece))).all() for piece in Rows([x]).pieces()):
        return None
    is_odd = ~torch.isfinite(x).all(dim=2)  # (windows, channels)
    window, channel = torch.nonzero(is_odd)[0].tolist()
    where = (
        f"in {int(is_odd.any(dim=1).sum())} of {len(x)} windows, the first is X[{window}, {channel}] (window, channel)"
    )
    return f"X holds NaN or infinite values {where}; clean the recording, or leave these windows out"


def _fault_of_labels(y: Tensor) -> str | None:
    if y.is_floating_point():
        return _stray(y, (y != 0) & (y != 1), "float labels must be 0 or 1; use int64 for classes")
    if y.dtype != torch.int64:
        fix = "y.float()" if y.dtype == torch.bool else "y.long(), or y.float() of 0 and 1"
        return f"y is {y.dtype}; needs float 0/1 or int64 classes: save {fix}"
    return _stray(
        y, (y < 0) | (y >= MOST_CLASSES), f"class indices must be 0 to {MOST_CLASSES - 1}, and count up from 0"
    )


def _stray(y: Tensor, is_odd: Tensor, rule: str) -> str | None:
    """Which label breaks the rule, if one does."""
    if not is_odd.any():
        return None
    first, count = int(torch.nonzero(is_odd)[0]), int(is_odd.sum())
    return f"y[{first}] is {y[first].item()}{f', and {count - 1} more are so' if count > 1 else ''}: {rule}"


def _kind_of(content: Any) -> str:
    """What a file holds instead of two tensors, in words."""
    if not isinstance(content, tuple | list) or len(content) > 4:
        return type(content).__name__
    return f"{type(content).__name__} of {', '.join(type(part).__name__ for part in content) or 'nothing'}"
