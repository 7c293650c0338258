"""From logits to the next token: repetition penalty, temperature, top-k, top-p, greedy."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...study.fields import Count, Fraction, Natural, NonNegative, Positive, Section


class Sampling(Section):
    """How text is drawn from a model."""

    max_length: Count = Field(100, description="new tokens at most")
    temperature: NonNegative = Field(0.8, description="0 takes the likeliest token; above 1 flattens the distribution")
    top_k: Natural = Field(50, description="only the so many likeliest tokens; 0: all")
    top_p: Fraction = Field(0.9, description="only the likeliest tokens that together have this probability; 1: all")
    seed: Natural | None = Field(None, description="the same seed gives the same text; null: another text each time")
    repetition_penalty: Positive = Field(1.0, description="above 1 makes what stands there already less likely")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="the text ends before the first of these"
    )


def penalised(logits: Tensor, rows: list[list[int]], settings: Sampling) -> Tensor:
    """Logits [B, V] with the penalty on each token that its row already holds, prompt included: a logit above 0 is
    divided by it, any other multiplied (Keskar et al. 2019)."""
    if settings.repetition_penalty == 1:
        return logits
    logits = logits.clone()
    for row, tokens in zip(logits, rows, strict=True):
        seen = torch.tensor(sorted(set(tokens)), device=logits.device)
        found = row[seen]
        row[seen] = torch.where(found > 0, found / settings.repetition_penalty, found * settings.repetition_penalty)
    return logits


def probabilities(logits: Tensor, settings: Sampling) -> Tensor:
    """Probabilities [B, V] of the next token from logits [B, V]. Temperature first, then top-k, then top-p, which keeps
    the smallest set of likeliest tokens that reaches top_p (Holtzman et al. 2020); these are scaled to sum to 1.
    """
    if settings.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
    logits = logits.double()
    # The largest logit becomes 0, because a tiny temperature would make it infinite.
    logits = (logits - logits.max(1, keepdim=True).values) / settings.temperature
    sorted_logits, order = logits.sort(dim=1, descending=True, stable=True)
    if settings.top_k:
        sorted_logits[:, settings.top_k :] = -torch.inf
    likely = sorted_logits.softmax(1)
    before = likely.cumsum(1) - likely  # probability of all likelier tokens
    likely[before >= settings.top_p] = 0.0
    likely /= likely.sum(1, keepdim=True)
    return torch.zeros_like(likely).scatter_(1, order, likely)


def draw(chances: Tensor, generators: list[torch.Generator]) -> list[int]:
    """A token for each row of `chances` [B, V]. Each row has its own generator and does not depend on the others."""
    return [
        int(torch.multinomial(row, 1, generator=generator))
        for row, generator in zip(chances.cpu(), generators, strict=True)
    ]
