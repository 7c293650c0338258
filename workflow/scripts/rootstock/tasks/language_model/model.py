"""A decoder-only transformer: RMSNorm, rotary positions, SDPA attention, SwiGLU, and by default tied embeddings.

RMSNorm: Zhang & Sennrich 2019. Rotary positions: Su et al. 2021. SwiGLU: Shazeer 2020. Grouped queries: Ainslie et al.
2023. Weights and order of operations are those of a Llama, so that a model can start from one and be exported as one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...engine.attention import plain_is_quicker
from .loss import summed_loss
from .settings import Model, RopeScaling

INITIAL_STD = 0.02


@dataclass
class Cache:
    """Keys and values of the tokens read so far, [layers, batch, key heads, room, d_head]; left padding of each row."""

    keys: Tensor
    values: Tensor
    padding: Tensor  # int64 [batch]
    length: int = 0


class LanguageModel(nn.Module):
    """Token numbers in, logits over the vocabulary out."""

    cos: Tensor  # [context_length, d_head], as `sin`
    sin: Tensor

    def __init__(self, vocab_size: int, shape: Model):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(vocab_size, shape.d_model)
        blocks = [Block(shape) for _ in range(shape.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(shape.d_model, eps=shape.norm_epsilon)
        cos, sin = rotary_tables(shape.context_length, shape.d_head, shape.rope_theta, shape.rope_scaling)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(_initialise)
        for block in blocks:  # the residual stream sums 2 × n_layers outputs: keep its variance (GPT-2)
            for last in (block.attention.output, block.feed_forward.down):
                nn.init.normal_(last.weight, std=INITIAL_STD / math.sqrt(2 * shape.n_layers))
        self.head = None if shape.is_tied else nn.Parameter(INITIAL_STD * torch.randn(vocab_size, shape.d_model))

    @property
    def output(self) -> Tensor:
        """Weights [V, d_model] of the output layer: the embedding, unless the model has a head of its own."""
        return self.embedding.weight if self.head is None else self.head

    @property
    def vocab_size(self) -> int:
        return self.embedding.num_embeddings

    def forward(self, tokens: Tensor, targets: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]; with targets [B, T] the loss summed over them, in nats, float64.

        A target of -100 does not count. With document numbers `documents` [B, T], attention stays within tokens of the
        same number. Positions do not start anew, because rotary positions only encode distances.
        """
        t = tokens.shape[1]
        mask = None if documents is None else within(documents)
        hidden = self._blocks(tokens, self.cos[:t], self.sin[:t], None, mask)
        if targets is None:
            return F.linear(hidden, self.output)  # (b, t, v)
        return summed_loss(hidden.flatten(0, 1), self.output, targets.flatten())

    def new_cache(self, padding: Tensor) -> Cache:
        """An empty cache for `context_length` tokens of a batch whose rows begin with `padding` [B] padding tokens."""
        room = (len(padding), self.shape.n_key_heads, self.shape.context_length, self.shape.d_head)
        keys = torch.zeros(self.shape.n_layers, *room, device=padding.device)
        return Cache(keys, torch.zeros_like(keys), padding)

    def next_logits(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Logits [B, V] after tokens [B, T] that follow those in `cache`, which grows by them."""
        index = torch.arange(cache.length, cache.length + tokens.shape[1], device=tokens.device)  # (t)
        position = (index[None] - cache.padding[:, None]).clamp(min=0)  # (b, t)
        cos, sin = self.cos[position][:, None], self.sin[position][:, None]  # (b, 1, t, d_head)
        seen = torch.arange(int(index[-1]) + 1, device=tokens.device)  # (s)
        mask = (seen[None, None] <= index[None, :, None]) & (seen[None, None] >= cache.padding[:, None, None])
        mask = mask | (seen[None, None] == index[None, :, None])  # padding sees itself, because an empty softmax is NaN
        hidden = self._blocks(tokens, cos, sin, cache, mask[:, None])
        cache.length += tokens.shape[1]
        return F.linear(hidden[:, -1], self.output)

    def _blocks(self, tokens: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:
        hidden = self.embedding(tokens)  # (b, t, c)
        for number, block in enumerate(self.blocks):
            room = None if cache is None else (cache.keys[number], cache.values[number], cache.length)
            hidden = block(hidden, cos, sin, room, mask)
        return self.norm(hidden)


class Block(nn.Module):
    """Attention, then the feed-forward part, each on the normalised stream and added to it."""

    def __init__(self, shape: Model):
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.d_model, eps=shape.norm_epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = nn.RMSNorm(shape.d_model, eps=shape.norm_epsilon)
        self.feed_forward = SwiGLU(shape)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, room: tuple | None, mask: Tensor | None) -> Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden), cos, sin, room, mask)
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))


class Attention(nn.Module):
    """Causal attention over the sequence axis, with rotary positions in queries and keys; queries may share a key."""

    def __init__(self, shape: Model):
        super().__init__()
        self.d_head, self.queries_a_key = shape.d_head, shape.n_heads // shape.n_key_heads
        of_queries, of_keys = shape.n_heads * shape.d_head, shape.n_key_heads * shape.d_head
        self.query = nn.Linear(shape.d_model, of_queries, bias=False)
        self.key = nn.Linear(shape.d_model, of_keys, bias=False)
        self.value = nn.Linear(shape.d_model, of_keys, bias=False)
        self.output = nn.Linear(of_queries, shape.d_model, bias=False)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor, room: tuple | None, mask: Tensor | None) -> Tensor:
        b, t, _ = hidden.shape
        q, k, v = (
            layer(hidden).view(b, t, -1, self.d_head).transpose(1, 2)  # (b, h, t, d_head)
            for layer in (self.query, self.key, self.value)
        )
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if room is not None:
            keys, values, length = room
            keys[:, :, length : length + t], values[:, :, length : length + t] = k, v
            k, v = keys[:, :, : length + t].to(q.dtype), values[:, :, : length + t].to(q.dtype)
        if self.queries_a_key > 1:
            k, v = (one.repeat_interleave(self.queries_a_key, dim=1) for one in (k, v))
        if room is None and torch.is_grad_enabled() and plain_is_quicker(q.device, q.dtype, t):
            mixed = plain_attention(q, k, v, mask)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.output(mixed.transpose(1, 2).reshape(b, t, -1))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, shape: Model):
        super().__init__()
        self.gate = nn.Linear(shape.d_model, shape.d_ff, bias=False)
        self.up = nn.Linear(shape.d_model, shape.d_ff, bias=False)
        self.down = nn.Linear(shape.d_ff, shape.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def within(documents: Tensor) -> Tensor:
    """Attention mask [B, 1, T, T] of documents [B, T]: a token sees itself and earlier tokens of the same number."""
    return (documents[:, None, :, None] == documents[:, None, None, :]).tril()


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention over [B, H, T, d_head] in plain operations, causal if no mask is given; the softmax is in float32."""
    t = q.shape[-2]
    if mask is None:
        mask = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)  # (b, h, t, t)
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v


def rotary_tables(length: int, d_head: int, theta: float, scaling: RopeScaling | None) -> tuple[Tensor, Tensor]:
    """Cosine and sine [length, d_head] of position × frequency; each half of the head holds all frequencies."""
    frequency = theta ** (-torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    if scaling is not None:
        frequency = scaled(frequency, scaling)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency  # (t, d_head / 2)
    angle = torch.cat([angle, angle], dim=1)
    return angle.cos(), angle.sin()


def scaled(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's frequencies for a longer context. One that turns more than `high_freq_factor` times within the
    original context stays, one that turns fewer than `low_freq_factor` times is divided by `factor`, and those between
    are a weighted mean of both."""
    turns = scaling.original_context * frequency / (2 * math.pi)
    share = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    share = share.clamp(0.0, 1.0)
    return share * frequency + (1 - share) * frequency / scaling.factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + d_head / 2) of x [.., T, d_head] by its position's angle; computed in the tables' float32."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
