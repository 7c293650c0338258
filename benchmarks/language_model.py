#!/usr/bin/env python
"""The language model's training against plainer ones, on the text and at the size of config/studies/language_model.yaml.

    python benchmarks/language_model.py speed    tokens/s of the engine's loop and of an eager, unfused loop of the same model
    python benchmarks/language_model.py loss     validation loss at equal tokens, and that of a plain GPT (learned positions,
                                                 LayerNorm, GELU; Radford et al. 2019) of equal size with AdamW

Both loops see the same batches, in bf16, with two threads. Run it where nothing else runs.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rootstock.controller.planning import content_of_workflow, plan_content  # noqa: E402
from rootstock.engine.loop import fit  # noqa: E402
from rootstock.engine.progress import Context  # noqa: E402
from rootstock.job.prepare import prepare  # noqa: E402
from rootstock.study.paths import prepared  # noqa: E402
from rootstock.study.run import Run  # noqa: E402
from rootstock.tasks.language_model.measure import inputs_and_targets  # noqa: E402
from rootstock.tasks.language_model.model import LanguageModel, rotate  # noqa: E402
from rootstock.tasks.language_model.settings import Model  # noqa: E402
from rootstock.tasks.language_model.shards import Prepared, open_prepared  # noqa: E402
from rootstock.tasks.language_model.specs import BETAS, BaseSpec  # noqa: E402
from rootstock.tasks.language_model.trainee import TextTrainee  # noqa: E402

STUDY = ROOT / "config/studies/language_model.yaml"
THREADS, REPEATS, TIMED_STEPS, WARM_STEPS = 2, 3, 30, 5
STEPS, RATES = 200, (0.001, 0.002, 0.004)


class PlainGPT(nn.Module):
    """Learned positions, LayerNorm with biases, GELU, tied embeddings. Its feed-forward part is a little wider than the usual
    4 × d_model, so that two matrices hold what SwiGLU's three do."""

    def __init__(self, vocab_size: int, shape: Model):
        super().__init__()
        self.shape, self.vocab_size = shape, vocab_size
        self.tokens = nn.Embedding(vocab_size, shape.d_model)
        self.positions = nn.Embedding(shape.context_length, shape.d_model)
        layer = {"nhead": shape.n_heads, "dim_feedforward": shape.d_ff * 3 // 2, "dropout": 0.0, "batch_first": True}
        layers = [
            nn.TransformerEncoderLayer(shape.d_model, activation="gelu", norm_first=True, **layer)
            for _ in range(shape.n_layers)
        ]
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(shape.d_model)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        t = tokens.shape[1]
        hidden = self.tokens(tokens) + self.positions.weight[:t]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        logits = F.linear(self.norm(hidden), self.tokens.weight)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none", ignore_index=-100)
        return loss.view_as(targets).sum(1) / (targets != -100).sum(1)


def unfused(model: LanguageModel, tokens: Tensor, targets: Tensor) -> Tensor:
    """The same model written out: attention by softmax of a product, norms by their formula, nothing fused."""

    def normed(x: Tensor, norm: nn.RMSNorm) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight

    b, t = tokens.shape
    hidden, future = model.embedding(tokens), torch.ones(t, t, dtype=torch.bool).triu(1)
    for block in model.blocks:
        attention, x = block.attention, normed(hidden, block.attention_norm)
        layers = (attention.query, attention.key, attention.value)
        q, k, v = (layer(x).view(b, t, -1, attention.d_head).transpose(1, 2) for layer in layers)
        q, k = rotate(q, model.cos[:t], model.sin[:t]), rotate(k, model.cos[:t], model.sin[:t])
        scores = (q @ k.transpose(-2, -1)) / q.shape[-1] ** 0.5
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype) @ v
        hidden = hidden + attention.output(mixed.transpose(1, 2).reshape(b, t, -1))
        x, mlp = normed(hidden, block.feed_forward_norm), block.feed_forward
        hidden = hidden + mlp.down(F.silu(mlp.gate(x)) * mlp.up(x))
    logits = F.linear(normed(hidden, model.norm), model.embedding.weight)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class Timed(TextTrainee):
    """Remembers when each step began: from one to the next is a whole step of the engine."""

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        self.begun_at = [*getattr(self, "begun_at", []), time.perf_counter()]
        return super().loss(model, samples, epoch)


def speed(text: Prepared, spec: BaseSpec) -> None:
    steps = TIMED_STEPS + WARM_STEPS
    spec = spec.model_copy(update={"max_steps": steps, "eval_every": steps, "eval_tokens": 128})
    rates: dict[str, list[float]] = {"engine": [], "eager, unfused": []}
    for _ in range(REPEATS):  # interleaved: what else the machine does falls on both
        trainee = trainee_of(text, spec, Timed)
        fit(trainee, spec, context())
        rates["engine"].append(tokens_per_second(trainee.begun_at, spec))
        rates["eager, unfused"].append(tokens_per_second(plain_loop(text, spec), spec))
    for name, found in rates.items():
        print(f"{name:<15} {statistics.median(found):8.0f} tokens/s   (" + ", ".join(f"{r:.0f}" for r in found) + ")")
    print(f"ratio of medians {statistics.median(rates['engine']) / statistics.median(rates['eager, unfused']):.2f}")


def plain_loop(text: Prepared, spec: BaseSpec) -> list[float]:
    """When each step of a loop as short as it can be written began."""
    trainee = trainee_of(text, spec)
    model, begun = trainee.model, []
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.lr, betas=BETAS, foreach=False, fused=False)
    for samples in trainee.batches(1):
        begun.append(time.perf_counter())
        x, y = inputs_and_targets(trainee.train, samples, trainee.context_length, trainee.device)
        with torch.autocast("cpu", torch.bfloat16):
            loss = unfused(model, x, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
        optimizer.step()
    return begun


def tokens_per_second(begun: list[float], spec: BaseSpec) -> float:
    """From the median step after the warm ones."""
    seconds = [after - before for before, after in zip(begun[WARM_STEPS:], begun[WARM_STEPS + 1 :], strict=False)]
    return spec.batch_size * spec.model.context_length / statistics.median(seconds)


def loss(text: Prepared, spec: BaseSpec) -> None:
    """Each model at each learning rate; its best counts."""
    changes = {"max_steps": STEPS, "eval_every": STEPS, "schedule": "linear", "eval_tokens": 65_536}
    for name, build, optimizer in (
        ("ours, AdamW", LanguageModel, "adamw"),
        ("ours, Muon", LanguageModel, "muon"),
        ("plain GPT, AdamW", PlainGPT, "adamw"),
    ):
        for rate in RATES:
            one = spec.model_copy(update=changes | {"lr": rate, "optimizer": optimizer})
            torch.manual_seed(one.seed)
            trainee = trainee_of(text, one, build=build)
            fitted = fit(trainee, one, context())
            size = sum(p.numel() for p in trainee.model.parameters())
            tokens = STEPS * one.batch_size * one.model.context_length
            print(
                f"{name:<17} lr {rate:g}  {size:,} parameters  {tokens:,} tokens  loss {fitted.history[-1]['val_loss']:.4f}"
            )
            sys.stdout.flush()


def trainee_of(text: Prepared, spec: BaseSpec, kind: type = TextTrainee, build: type = LanguageModel) -> TextTrainee:
    streams = [text.stream(text.domains, split) for split in ("train", "val")]
    return kind(build(text.vocab_size, spec.model), text.tokenizer, *streams, spec, context())


def context() -> Context:
    return Context(torch.device("cpu"), run=Run(compile=True), say=lambda _: None)


def main() -> None:
    plan = plan_content(content_of_workflow([str(STUDY)], None))
    for artefact in plan.artefacts.values():
        prepare(plan.study.task, artefact.spec, prepared(artefact.name))
    torch.set_num_threads(THREADS)
    base = max(plan.bases.values(), key=lambda training: training.spec.max_steps)
    {"speed": speed, "loss": loss}[sys.argv[1]](open_prepared(base.data), base.spec)


if __name__ == "__main__":
    if sys.argv[1:] not in (["speed"], ["loss"]):
        sys.exit(__doc__)
    main()
