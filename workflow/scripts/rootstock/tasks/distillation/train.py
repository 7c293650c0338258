"""Distillation as a job sees it: a student built from a spec, trained in either phase, and measured."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...engine.loop import Outcome, fit, untrained
from ...engine.low_rank import add_low_rank, update_of
from ...engine.models import count_parameters, weights_digest
from ...engine.progress import Context, Fitted
from ...engine.seeding import seed_step
from ...study.parts import Inputs
from ...study.problems import Refusal
from .dataset import prepared_text
from .retrieval import retrieval, similarity_correlation
from .specs import BaseSpec, FinetuneSpec
from .student import SentenceEncoder, load_model, pretrained_student
from .text import Text
from .trainee import Encoder, General, Phase, Retrieval
from .vectors import Vectors

PROJECTION_TEXTS = 4096  # that the first weights of the projection's last layer are fitted to
RIDGE = 1e-2


def train_base(spec: BaseSpec, inputs: Inputs, context: Context) -> Outcome:
    """Phase 1: from pretrained weights to the teacher's vectors; validation loss chooses the epoch."""
    text, vectors = open_data(inputs.folder)
    seed_step(spec.seed, 0)
    model, tokenizer = pretrained_student(spec.student, spec.max_length, vectors.dimension)
    freeze(model, spec.freeze_word_embeddings)
    encoder = Encoder(model, tokenizer, text, context, spec.precision)
    phase = General(encoder, vectors, spec, spec.max_samples_per_dataset, None, spec.student.mrl_dimensions)
    batch = _announce("phase 1", phase, context)
    if model.projection is not None:
        start_projection(model, encoder, vectors, phase.train)
    check_warmup(phase, spec)
    return _outcome(phase, fit(phase, spec, context), batch)


def train_finetune(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """Phase 2 on a phase-1 model; its scores stand beside those of the model that it started from."""
    text, vectors = open_data(inputs.folder)
    base, base_spec = inputs.base.content, inputs.base.spec
    assert isinstance(base_spec, BaseSpec)
    model = load_model(base, f"base model {inputs.base.hash}")
    model.tokenizer.max_length = spec.max_length
    freeze(model, base_spec.freeze_word_embeddings)
    if spec.rank is not None and spec.alpha is not None:
        seed_step(spec.seed, 0)
        add_low_rank(model, spec.rank, spec.alpha)
        if getattr(model.transformer, "pooler", None) is not None:
            model.transformer.pooler.requires_grad_(False)  # not used, see `student`
    encoder = Encoder(model, model.tokenizer, text, context, spec.precision)
    phase = Retrieval(encoder, vectors, spec, None, spec.max_samples, base_spec.student.mrl_dimensions)
    batch = _announce(f"phase 2 from base model {inputs.base.hash}", phase, context)
    check_warmup(phase, spec)
    fitted = fit(phase, spec, context)
    outcome = _outcome(phase, fitted, batch | {"base_test": base["measured"]["test"]})
    if spec.is_update:
        outcome.model |= {"model": update_of(fitted.state), "base_weights": weights_digest(base["model"])}
    return outcome


def measure_base(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """The metrics from the training of the phase-1 model, because they were measured on the same text."""
    content = inputs.base.content
    return untrained(content, content["measured"])


def open_data(folder: str | Path) -> tuple[Text, Vectors]:
    """The teacher's vectors in `folder` and the text beside it."""
    text, vectors = Text(prepared_text(Path(folder))), Vectors(Path(folder))
    if (len(vectors.queries), len(vectors.passages)) != (len(text.queries), len(text.passages)):
        raise Refusal(f"{folder}: its vectors are not those of the text beside it; delete it and run again")
    return text, vectors


def measure(encoder: Encoder, vectors: Vectors, dimensions: tuple[int, ...] | None) -> dict[str, Any]:
    """Retrieval of held-out passages by student and teacher, and the correlation of their similarities."""
    text = encoder.text
    query_rows, passage_rows, true = text.queries_of("test"), text.passages_of("test"), text.positives()
    queries, passages = encoder.all_of("queries", query_rows), encoder.all_of("passages", passage_rows)
    teacher = tuple(
        torch.from_numpy(np.asarray(array[rows], dtype=np.float32))
        for array, rows in ((vectors.queries, query_rows), (vectors.passages, passage_rows))
    )

    def scores(q: torch.Tensor, p: torch.Tensor) -> dict[str, Any]:
        return retrieval(q, p, query_rows, passage_rows, true)

    measured: dict[str, Any] = {"test": scores(queries, passages), "teacher": scores(*teacher)}
    measured["test"]["teacher_correlation"] = similarity_correlation(queries, passages, *teacher)
    measured["dimensions"] = {
        str(d): scores(*(nn.functional.normalize(v[:, :d], dim=1) for v in (queries, passages)))
        for d in dimensions or ()
    }
    return measured | {"n_queries": len(query_rows), "n_passages": len(passage_rows)}


@torch.no_grad()
def start_projection(model: SentenceEncoder, encoder: Encoder, vectors: Vectors, pairs: np.ndarray) -> None:
    """Fit the projection's last linear layer to the teacher by ridge regression.

    The inputs are random features of the pooled vectors. The targets are the teacher's vectors, up to the scale that
    LayerNorm gives. Training then starts near the teacher.
    """
    model.eval()
    chosen = pairs[np.linspace(0, len(pairs) - 1, min(PROJECTION_TEXTS, len(pairs))).astype(int)]
    rows = np.unique(encoder.text.pairs[chosen, 1])
    head, model.projection = model.projection, None
    assert head is not None  # there is a projection to start
    pooled = []
    for part in torch.from_numpy(rows).split(256):
        tokens, lengths = encoder.tokenizer(encoder.text.passages.take(part.numpy()))
        pooled.append(model.pooled(tokens.to(encoder.context.device), lengths.to(encoder.context.device)))
    model.projection = head
    features = head.features(torch.cat(pooled)).double().cpu()  # (n, hidden), after the GELU
    target = torch.from_numpy(np.asarray(vectors.passages[rows], dtype=np.float64))
    target = target / target.std()  # the last LayerNorm brings every vector to this scale
    mean_in, mean_out = features.mean(0), target.mean(0)
    centred = features - mean_in
    gram = centred.T @ centred + RIDGE * len(rows) * torch.eye(features.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (target - mean_out)).T  # (dimension, hidden)
    head.last.weight.copy_(weight)
    head.last.bias.copy_(mean_out - weight @ mean_in)


def check_warmup(phase: Phase, spec: BaseSpec | FinetuneSpec) -> None:
    """Raise `Refusal` where the warmup takes the whole run."""
    steps_of_epoch = len(phase.batches(1))
    steps = spec.max_epochs * steps_of_epoch
    if spec.warmup_steps >= steps:
        raise Refusal(
            f"{'base' if spec.kind == 'base' else 'finetune'}.warmup_steps: {spec.warmup_steps} is not shorter than the run "
            f"of {steps} steps ({spec.max_epochs} epochs of {steps_of_epoch}); make it smaller or the run longer"
        )


def _announce(name: str, phase: Phase, context: Context) -> dict[str, Any]:
    """Log, and return for the records, the number of training pairs and the real size of a step."""
    sizes = [len(batch) for batch in phase.batches(1)]
    mine = -(-max(sizes) // context.world.size)
    micro = min(context.run.micro_batch_size or mine, mine)
    context.say(
        f"{name}: {sum(sizes)} of {len(phase.train)} pairs an epoch, {len(sizes)} steps of {min(sizes)} to {max(sizes)} pairs "
        f"({context.world.size} process(es) × {-(-mine // micro)} micro-batch(es) of up to {micro})"
    )
    return {"effective_batch": max(sizes), "steps_per_epoch": len(sizes), "n_train": sum(sizes)}


def freeze(model: SentenceEncoder, word_embeddings: bool) -> None:
    """Freeze the word embeddings if `word_embeddings`."""
    if word_embeddings:
        model.transformer.get_input_embeddings().requires_grad_(False)


def _outcome(phase: Phase, fitted: Fitted, more: dict[str, Any]) -> Outcome:
    model = phase.model
    metrics = measure(phase.encoder, phase.vectors, phase.own_dimensions) | more
    metrics |= {
        "parameters": count_parameters(model),
        "layers": model.transformer.config.num_hidden_layers,
        "dimension": model.dimension,
    }
    return Outcome({"model": fitted.state, **phase.rebuilds, "measured": metrics}, metrics, fitted)
