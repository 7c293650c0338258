"""The peer of benchmarks/language_model.py: a GPT-2 as nanoGPT trains it, with the shortest possible loop."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.95), 0.1, 1.0


class PlainGPT(nn.Module):
    """Learned positions, LayerNorm, GELU, tied embeddings, no biases (Radford et al. 2019). Its feed-forward part has two
    matrices of 1.5 × `d_ff`, which have as many parameters as the three of a SwiGLU."""

    def __init__(self, vocab_size: int, d_model: int, n_heads: int, n_layers: int, d_ff: int, context_length: int):
        super().__init__()
        self.vocab_size = vocab_size
        self.tokens, self.positions = nn.Embedding(vocab_size, d_model), nn.Embedding(context_length, d_model)
        self.blocks = nn.ModuleList(PlainBlock(d_model, n_heads, d_ff * 3 // 2) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                last = name.endswith(("mixed.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * n_layers) if last else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The loss in nats, summed over targets [B, T]; a target of -100 does not count."""
        hidden = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        logits = F.linear(self.norm(hidden), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum", ignore_index=-100)


class PlainBlock(nn.Module):
    def __init__(self, d_model: int, n_heads: int, d_ff: int):
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm, self.norm = nn.LayerNorm(d_model, bias=False), nn.LayerNorm(d_model, bias=False)
        self.all_three = nn.Linear(d_model, 3 * d_model, bias=False)
        self.mixed = nn.Linear(d_model, d_model, bias=False)
        self.up, self.down = nn.Linear(d_model, d_ff, bias=False), nn.Linear(d_ff, d_model, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        b, t, c = hidden.shape
        parts = self.all_three(self.attention_norm(hidden)).view(b, t, 3, self.n_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (b, h, t, d_head)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden = hidden + self.mixed(mixed.transpose(1, 2).reshape(b, t, c))
        return hidden + self.down(F.gelu(self.up(self.norm(hidden))))


def plain_steps(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], lr: float, precision: torch.dtype) -> None:
    """Take one step per batch, at a constant learning rate."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=BETAS, fused=True)
    for x, y in batches:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = model(x, y) / y.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
