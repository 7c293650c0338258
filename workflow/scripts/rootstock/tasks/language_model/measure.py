"""How well a model predicts text: loss in nats per token and perplexity."""

import math

import torch
from torch import Tensor, nn

from ...engine.loop import PRECISIONS
from ...engine.progress import Context
from .loss import NOT_COUNTED
from .shards import TokenStream

EVALUATION_WINDOWS = 32


class Measure:
    """Loss on a text, cut into windows that do not overlap, so that each token is predicted once."""

    def __init__(
        self,
        model: nn.Module,
        context_length: int,
        precision: str | None,
        context: Context,
        boundary: int | None = None,
    ):
        self.model, self.context_length, self.boundary = model, context_length, boundary
        self.device, self.world, self.precision = context.device, context.world, precision or "float32"

    @torch.no_grad()
    def __call__(self, stream: TokenStream, most_tokens: int | None = None) -> dict[str, float | int]:
        """Measure over all ranks. With `most_tokens`, windows spread evenly over the text stand for all of it."""
        self.model.eval()
        loss_sum, tokens = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
        windows = window_starts(len(stream), self.context_length, most_tokens)
        for piece in self.world.pieces(windows, EVALUATION_WINDOWS):
            starts = piece if len(piece) else torch.tensor([len(stream)])  # counts nothing, keeps the ranks in step
            x, y = inputs_and_targets(stream, starts, self.context_length, self.device)
            past_end = starts[:, None].to(self.device) + torch.arange(y.shape[1], device=self.device) + 1 >= len(stream)
            y = y.masked_fill(past_end, NOT_COUNTED)  # a new tensor: with a single window, y shares memory with x
            with torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.precision != "float32"):
                loss_sum += self.model(x, y, documents_of(x, self.boundary)).item()
            tokens += (y != NOT_COUNTED).sum().item()
        return _measured(self.world.sum(loss_sum).item(), int(self.world.sum(tokens).item()))


def together(parts: list[dict[str, float | int]]) -> dict[str, float | int]:
    """The measurements of several texts, combined as of one text."""
    return _measured(sum(part["loss"] * part["tokens"] for part in parts), int(sum(part["tokens"] for part in parts)))


def window_starts(length: int, context_length: int, most_tokens: int | None) -> Tensor:
    """Starts, int64, of the windows that cover a text of `length` tokens; with `most_tokens`, of evenly spread ones."""
    starts = torch.arange(0, max(length - 1, 1), context_length)
    most = len(starts) if most_tokens is None else max(1, most_tokens // context_length)
    return starts if most >= len(starts) else starts[torch.linspace(0, len(starts) - 1, most).long()]


def _measured(loss_sum: float, tokens: int) -> dict[str, float | int]:
    loss = loss_sum / max(tokens, 1)
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": tokens}


def inputs_and_targets(
    stream: TokenStream, starts: Tensor, context_length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens [N, context_length] from each start on, and for each the token that follows it."""
    tokens = torch.from_numpy(stream.windows(starts.tolist(), context_length + 1)).to(device)
    return tokens[:, :-1], tokens[:, 1:].contiguous()


def documents_of(tokens: Tensor, boundary: int | None) -> Tensor | None:
    """The number of the document of each of tokens [N, T], counted within its window; None without a boundary.

    The token that ends a document counts to the next one. That document's first token is predicted from it, so that no
    token goes unlearned.
    """
    return None if boundary is None else (tokens == boundary).cumsum(1)
