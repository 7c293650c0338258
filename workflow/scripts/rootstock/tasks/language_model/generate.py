"""Text from a trained model: load one from any file that holds it, continue prompts, one or many at a time."""

import warnings
from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...engine.device import pick_device
from ...study import paths
from ...study.problems import Refusal
from ..loading import verified_content
from .dataset import passes
from .model import Cache, LanguageModel
from .sampling import Sampling, draw, penalised, probabilities
from .settings import Model
from .shards import open_prepared
from .specs import BaseSpec, FinetuneSpec
from .tokenizer import encode_prompt, end_of_text, read_tokenizer
from .train import load_model
from .written import Written


@dataclass(frozen=True)
class Config:
    """What is known of a loaded model."""

    path: Path
    hash: str
    kind: str  # trunk, or the mode of a branch
    domain: str | None
    step: int
    epoch: float | None  # passes over its text
    loss: float | None  # nats per token on the val set
    shape: Model
    tokenizer: Tokenizer
    spec: dict[str, Any]

    def __str__(self) -> str:
        about = f"{self.kind} {self.domain}" if self.domain else self.kind
        epoch = "?" if self.epoch is None else f"{self.epoch:.2f}"
        loss = "not measured yet" if self.loss is None else f"{self.loss:.3f} nats a token"
        return f"{about} {self.hash}: step {self.step}, epoch {epoch}, loss {loss}"


def load_model_from_checkpoint(
    path: str | Path, device: str = "auto", store: str | Path = paths.STORE
) -> tuple[LanguageModel, Config]:
    """Load the model of any file that holds one: `model.pt`, `best_model.pt`, `base_models/<hash>.pt`, or a checkpoint.

    Nothing in the file is ever run. Raise `Refusal`, in one line, where it holds no language model or is damaged.
    """
    path = Path(path)
    content = verified_content(path, store)
    if content["spec"]["task"] != "language_model":
        raise Refusal(f"{path}: holds no language model, but one of {content['spec']['task']}")
    try:
        model, config = _loaded(content, path)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Refusal(f"{path}: is no language model that can be read ({reason})") from None
    return model.to(pick_device(device)).eval(), config


def _loaded(content: dict[str, Any], path: Path) -> tuple[LanguageModel, Config]:
    spec = content["spec"]
    shape = Model.model_validate(spec["model"])
    model = load_model(content, str(path))
    tokenizer = _tokenizer(content, path)
    if tokenizer.get_vocab_size() != model.vocab_size:
        raise Refusal(
            f"{path}: has a vocabulary of {model.vocab_size}, its tokenizer one of {tokenizer.get_vocab_size()}; "
            "they do not belong together"
        )
    config = Config(
        path, content["hash"], spec.get("mode", "trunk"), spec.get("domain"), **_trained(content), shape=shape,
        tokenizer=tokenizer, spec=spec,
    )  # fmt: skip
    return model, config


def generate_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str | list[str], **settings: Any
) -> str | list[str]:
    """Return what the model writes after a prompt, or after each of several in one batch; `settings` as in `Sampling`.

    Each prompt gets the text that it would get alone. The k-th copy of a prompt, counted from 0, gets the text of
    `seed` + k. Warn of each prompt that is longer than the context.
    """
    prompts, how = [prompt] if isinstance(prompt, str) else prompt, Sampling(**settings)
    rows = [encode_prompt(tokenizer, text) for text in prompts]
    for reason in filter(None, (beyond_context(model, row) for row in rows)):
        warnings.warn(reason, stacklevel=2)
    texts = texts_after(model, tokenizer, rows, how, seeds_of(rows, how.seed))
    return texts[0] if isinstance(prompt, str) else texts


def texts_after(
    model: LanguageModel, tokenizer: Tokenizer, rows: list[list[int]], settings: Sampling, seeds: list[int]
) -> list[str]:
    """Return the texts after prompts that are given as token numbers, each with its own seed."""
    written, is_over = [Written(tokenizer, settings.stop) for _ in rows], [False] * len(rows)
    for tokens in stream_tokens(model, rows, end_of_text(tokenizer), settings, seeds, is_over):
        for number, token in enumerate(tokens):
            if token is not None:
                written[number].add(token)
                is_over[number] = written[number].is_over
    return [one.whole() for one in written]


def stream_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, settings: Sampling
) -> Generator[str, None, None]:
    """Yield the text after one prompt, piece by piece; a character of several tokens comes once it is complete."""
    written, is_over = Written(tokenizer, settings.stop), [False]
    rows = [encode_prompt(tokenizer, prompt)]
    for (token,) in stream_tokens(model, rows, end_of_text(tokenizer), settings, None, is_over):
        assert token is not None  # the stream ends with its only row
        if piece := written.add(token):
            yield piece
        is_over[0] = written.is_over
    if rest := written.rest():
        yield rest


def beyond_context(model: LanguageModel, row: list[int]) -> str | None:
    """A message about a prompt's tokens that do not fit into the context; None if all of them fit."""
    room = model.shape.context_length
    if len(row) <= room:
        return None
    return f"prompt: {len(row)} tokens, the context has {room}; the first {len(row) - room} are not read"


@torch.inference_mode()
def stream_tokens(
    model: LanguageModel,
    rows: list[list[int]],
    end: int,
    settings: Sampling,
    seeds: list[int] | None = None,
    is_over: list[bool] | None = None,
) -> Iterator[list[int | None]]:
    """Yield the next token of each row, step by step; None for a row that has reached its end of text, or that the
    caller has ended in `is_over`. `seeds` has one per row (default: `seeds_of` the settings' seed).

    An empty row begins a new text. Of a row longer than the context, the last `context_length` tokens are read; a row
    that fills the context continues from its later half.
    """
    room, ended = model.shape.context_length, [False] * len(rows) if is_over is None else is_over
    seeds = seeds_of(rows, settings.seed) if seeds is None else seeds
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    rows = [(row or [end])[-room:] for row in rows]
    if not rows:
        return
    logits, cache = _read(model, rows)
    for number in range(settings.max_length):
        tokens = draw(probabilities(penalised(logits.float(), rows, settings), settings), generators)
        ended[:] = [over or token == end for over, token in zip(ended, tokens, strict=True)]
        if all(ended):
            return
        yield [None if over else token for over, token in zip(ended, tokens, strict=True)]
        if number + 1 == settings.max_length or all(ended):
            return
        rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
        if cache.length < room:
            logits = model.next_logits(torch.tensor(tokens, device=logits.device)[:, None], cache)
        else:
            rows = [row if len(row) <= room else row[-(room // 2) :] for row in rows]
            logits, cache = _read(model, rows)


def seeds_of(rows: Iterable[Sequence[Hashable]], seed: int | None) -> list[int]:
    """The seed of each row: `seed`, or a random one, plus the number of equal rows before it."""
    first, seen = int(torch.randint(2**62, (1,)).item()) if seed is None else seed, Counter[tuple]()
    seeds = []
    for row in map(tuple, rows):
        seeds.append(first + seen[row])
        seen[row] += 1
    return seeds


def _read(model: LanguageModel, rows: list[list[int]]) -> tuple[Tensor, Cache]:
    """Read rows, padded on the left to one length. Return the logits after each row, and the cache of the rows."""
    longest, device = max(map(len, rows)), model.embedding.weight.device
    padding = torch.tensor([longest - len(row) for row in rows], device=device)
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    cache = model.new_cache(padding)
    return model.next_logits(tokens, cache), cache


def _tokenizer(content: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer of a model file; a checkpoint instead names the folder of its text."""
    if "tokenizer" in content:
        return read_tokenizer(content["tokenizer"], str(path))
    return read_tokenizer(open_prepared(content["data"]).tokenizer, content["data"])


def _trained(content: dict[str, Any]) -> dict[str, Any]:
    if "trained" in content:
        return content["trained"]
    measured = content["history"][-1]["val_loss"] if content["history"] else None
    kind = FinetuneSpec if "mode" in content["spec"] else BaseSpec
    done = passes(kind.model_validate(content["spec"]), content["step"], content["data"])
    return {"step": content["step"], "epoch": done, "loss": measured}
