"""Rows of many tensors as if of one, which is never built: a data set's files stay where they are, batches are
gathered."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

PIECE = 2**20  # numbers per piece: 4 MB, which stay in a processor's cache
FREE_SHARE = 0.5  # of a GPU's free memory that rows may fill


class Rows:
    """Tensors [n, ...] of one type and row shape, one after the other. Rows of a mapped file are read when they are
    used, and the system keeps one copy for all processes of a machine."""

    def __init__(self, parts: Sequence[Tensor], device: torch.device | None = None):
        self.parts = tuple(part for part in parts if len(part)) or tuple(parts[:1])
        self.ends = list(accumulate(map(len, self.parts)))
        self.device = device or self.parts[0].device  # where batches are wanted

    def __len__(self) -> int:
        return self.ends[-1]

    def __add__(self, other: "Rows") -> "Rows":
        return Rows((*self.parts, *other.parts))

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.parts[0].shape[1:]))

    def to(self, device: torch.device, share: float = 1.0) -> "Rows":
        """The rows for a device of which a `share` is ours: one tensor on a GPU with enough free memory, else moved
        batch by batch."""
        if device.type != "cuda":
            return self
        first = self.parts[0]
        if self.shape.numel() * first.element_size() > FREE_SHARE * share * torch.cuda.mem_get_info(device)[0]:
            return Rows(self.parts, device)
        try:
            whole = torch.empty(self.shape, dtype=first.dtype, device=device)
        except torch.cuda.OutOfMemoryError:  # another process was quicker
            return Rows(self.parts, device)
        for part, place in zip(self.parts, whole.split([len(part) for part in self.parts]), strict=True):
            place.copy_(part)
        return Rows([whole])

    def take(self, index: Tensor) -> Tensor:
        """A copy of the rows with these numbers, in this order."""
        if len(self.parts) == 1:
            found = self.parts[0][index.to(self.parts[0].device)]
        else:
            rows = [self._row(number) for number in index.tolist()]
            found = torch.stack(rows) if rows else self.parts[0][:0]
        return self._brought(found)

    def between(self, first: int, last: int) -> Tensor:
        """Rows `first` to `last` - 1; not a copy if they lie in one part on the wanted device."""
        starts = [end - len(part) for end, part in zip(self.ends, self.parts, strict=True)]
        ranges = [(max(first - start, 0), max(last - start, 0)) for start in starts]
        pieces = [part[begin:end] for part, (begin, end) in zip(self.parts, ranges, strict=True)]
        pieces = [piece for piece in pieces if len(piece)] or pieces[:1]
        return self._brought(pieces[0] if len(pieces) == 1 else torch.cat(pieces))

    def all(self) -> Tensor:
        return self.between(0, len(self))

    def pieces(self) -> Iterator[Tensor]:
        """All rows, a few at a time."""
        for part in self.parts:
            yield from part.split(max(1, PIECE // max(1, part[0].numel()))) if len(part) else ()

    def two_alike(self) -> Tensor:
        """For rows [N, channels, samples] return two rows [2, channels, 1], float64, of the same mean and deviation per
        channel.

        Differences from the first row's mean are summed, which keeps digits: within a row in its own type, over rows in
        float64.
        """
        count = len(self) * self.shape[2]
        origin = self.parts[0][0].mean(1, keepdim=True)
        total, squares = torch.zeros(2, len(origin), dtype=torch.float64, device=origin.device)
        for piece in self.pieces():
            difference = piece - origin
            total += difference.sum(2).sum(0, dtype=torch.float64)
            squares += difference.square_().sum(2).sum(0, dtype=torch.float64)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        return (origin[:, 0] + mean + torch.stack([-deviation, deviation]))[:, :, None]

    def _row(self, number: int) -> Tensor:
        part = bisect_right(self.ends, number)
        return self.parts[part][number - self.ends[part]]  # counted from the part's end

    def _brought(self, rows: Tensor) -> Tensor:
        """Rows on the wanted device. A GPU computes on while they are copied."""
        return rows if rows.device == self.device else rows.pin_memory().to(self.device, non_blocking=True)
