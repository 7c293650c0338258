"""Sentences for the methods section of a paper about language models; every number comes from the specs."""

from typing import Any

from ...results.wording import counted, listed, numbered, percentages, values_of
from ...study.plan import Plan
from .specs import BETAS, BaseSpec, FinetuneSpec, TextIdentity

ATTENTION = {  # by whether documents are masked
    (False,): "",
    (True,): ", with attention within documents",
    (False, True): ", with attention across documents and within them",
}
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon for matrices and AdamW for the rest"}


def methods(plan: Plan) -> list[str]:
    trunks = [training.spec for training in plan.bases.values() if isinstance(training.spec, BaseSpec)]
    branches = [one.spec for one in plan.fine_tunes if isinstance(one.spec, FinetuneSpec)]
    if not trunks:
        return []
    return [*_of_text(trunks), *_of_models(trunks), *_of_trunks(trunks), *_of_branches(branches), _of_losses(trunks)]


def _of_text(trunks: list[BaseSpec]) -> list[str]:
    return [
        f"The text was {_source(text)} ({counted(len(text.domains), 'domain', 'domains')}: {listed(text.domains, 'and')}), "
        f"{_tokens(text)}. "
        f"Documents were split into {percentages(text.split)} for training, validation and test; documents that say the same "
        "stayed in one part."
        for text in dict.fromkeys(trunk.data.model_copy(update={"content": None}) for trunk in trunks)
    ]


def _source(text: TextIdentity) -> str:
    return f"definitions of ontologies ({text.version})" if text.version else "documents of our own"


def _tokens(text: TextIdentity) -> str:
    if text.vocab_size is None:
        return "cut into tokens by a given tokenizer"
    return f"cut into tokens by a byte-level BPE with a vocabulary of {text.vocab_size:,}, trained on the training part"


def _of_models(trunks: list[BaseSpec]) -> list[str]:
    return [
        f"A model was a decoder-only transformer with {counted(shape.n_layers, 'layer', 'layers')} of width "
        f"{shape.d_model}, {counted(shape.n_heads, 'head', 'heads')}, a "
        f"feed-forward width of {shape.d_ff} (SwiGLU) and rotary positions, over {shape.context_length} tokens."
        for shape in dict.fromkeys(trunk.model for trunk in trunks)
    ]


def _of_trunks(trunks: list[BaseSpec]) -> list[str]:
    return [f"Trunks learned from all domains, {_course(trunks)}."]


def _of_branches(branches: list[FinetuneSpec]) -> list[str]:
    """One sentence per mode."""
    told = []
    for mode in dict.fromkeys(one.mode for one in branches):
        own = [one for one in branches if one.mode == mode]
        if mode == "cool_down":
            told.append(f"Cool-downs continued a trunk with all text, {_course(own)}.")
            continue
        share = percentages(sorted({one.target_data_pct for one in own if one.target_data_pct is not None}), "or")
        told.append(
            f"Branches ({_what(mode, own)}) continued a trunk with {share} of the training documents of one domain, {_course(own)}."
        )
    return told


def _what(mode: str, own: list[FinetuneSpec]) -> str:
    if mode == "last_layers_only":
        return f"{mode}: the last {numbered(own, 'trained_layers', 'block', 'blocks')} and the last norm"
    if mode == "lora":
        return f"{mode}: rank {values_of(own, 'rank')}, alpha {values_of(own, 'alpha')}"
    return f"{mode}: all weights"


def _course(specs: list[Any]) -> str:
    """How trunks or branches were trained."""
    by = listed(OPTIMIZERS[spec.optimizer] for spec in specs)
    attention = ATTENTION[tuple(sorted({spec.mask_documents for spec in specs}))]
    return (
        f"with {by} (betas of AdamW {listed(BETAS, 'and')}; peak learning rate {values_of(specs, 'lr')} after "
        f"{numbered(specs, 'warmup_steps', 'step', 'steps')} of warm-up, schedule {values_of(specs, 'schedule')}; weight decay of "
        f"matrices {values_of(specs, 'weight_decay')}; gradient norm at most {values_of(specs, 'gradient_clip')}) for "
        f"{numbered(specs, 'max_steps', 'step', 'steps')} of {values_of(specs, 'batch_size')} windows, in "
        f"{values_of(specs, 'precision')}, seed {values_of(specs, 'seed', 'and')}{attention}"
    )


def _of_losses(trunks: list[BaseSpec]) -> str:
    return (
        "We report the mean cross-entropy in nats a token on the test set of each domain, cut into windows that do not "
        "overlap, so that each token is predicted once. Of the evaluations on the validation part, every "
        f"{values_of(trunks, 'eval_every')} steps of a trunk, the one with the lowest loss gave the weights that were kept."
    )
