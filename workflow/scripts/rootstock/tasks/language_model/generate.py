"""Text from a trained model: load one from any file that holds it, go on from prompts, one or many at a time."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from ...engine.device import pick_device
from ...study import paths
from ...study.problems import Refusal
from ..loading import verified_content
from .dataset import passes
from .model import Cache, LanguageModel
from .sampling import Sampling, draw, probabilities
from .settings import Model
from .shards import open_prepared
from .specs import BaseSpec, FinetuneSpec
from .tokenizer import encode_prompt, end_of_text, read_tokenizer
from .train import load_model


@dataclass(frozen=True)
class Config:
    """What is known of a loaded model."""

    path: Path
    hash: str
    kind: str  # trunk, or the mode of a branch
    domain: str | None
    step: int
    epoch: float | None  # passes over its text
    loss: float | None  # nats a token on the val part
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
    """The model of any file that holds one: `model.pt`, `best_model.pt`, `base_models/<hash>.pt`, or a checkpoint.

    Nothing in the file is ever run. Raises `Refusal` in one line where it holds no language model or is damaged.
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
    """What the model writes after a prompt, or after each of several, read as one batch; `settings` as in `Sampling`.

    Each prompt's text is that which it would get alone.
    """
    prompts = [prompt] if isinstance(prompt, str) else prompt
    rows = [encode_prompt(tokenizer, text) for text in prompts]
    written: list[list[int]] = [[] for _ in rows]
    for tokens in stream_tokens(model, rows, end_of_text(tokenizer), Sampling(**settings)):
        for row, token in zip(written, tokens, strict=True):
            row += [] if token is None else [token]
    texts = [tokenizer.decode(row) for row in written]
    return texts[0] if isinstance(prompt, str) else texts


def stream_text(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, settings: Sampling
) -> Generator[str, None, None]:
    """The same for one prompt, piece by piece as it comes; a character of several tokens comes when it is whole."""
    written: list[int] = []
    decoder, shown = DecodeStream(skip_special_tokens=True), 0
    for (token,) in stream_tokens(model, [encode_prompt(tokenizer, prompt)], end_of_text(tokenizer), settings):
        assert token is not None  # the stream ends with its only row
        written.append(token)
        if piece := decoder.step(tokenizer, token):
            yield piece
            shown += len(piece)
    if rest := tokenizer.decode(written)[shown:]:  # a character that never became whole
        yield rest


@torch.inference_mode()
def stream_tokens(
    model: LanguageModel, rows: list[list[int]], end: int, settings: Sampling
) -> Iterator[list[int | None]]:
    """The next token of each row, again and again; None for a row that has come to its end of text.

    An empty row begins a new text. A row longer than the context is read from its last `context_length` tokens; a row that
    fills the context goes on from its later half.
    """
    room = model.shape.context_length
    seeds = int(torch.randint(2**62, (1,)).item()) if settings.seed is None else settings.seed
    generators = [torch.Generator().manual_seed(seeds) for _ in rows]
    rows = [(row or [end])[-room:] for row in rows]
    ended = [False] * len(rows)
    logits, cache = _read(model, rows)
    for number in range(settings.max_length):
        tokens = draw(probabilities(logits.float(), settings), generators)
        ended = [over or token == end for over, token in zip(ended, tokens, strict=True)]
        if all(ended):
            return
        yield [None if over else token for over, token in zip(ended, tokens, strict=True)]
        if number + 1 == settings.max_length:
            return
        rows = [[*row, token] for row, token in zip(rows, tokens, strict=True)]
        if cache.length < room:
            logits = model.next_logits(torch.tensor(tokens, device=logits.device)[:, None], cache)
        else:
            rows = [row if len(row) <= room else row[-(room // 2) :] for row in rows]
            logits, cache = _read(model, rows)


def _read(model: LanguageModel, rows: list[list[int]]) -> tuple[Tensor, Cache]:
    """Logits after each row, and the cache that holds them, rows of different lengths padded on the left."""
    longest, device = max(map(len, rows)), model.embedding.weight.device
    padding = torch.tensor([longest - len(row) for row in rows], device=device)
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    cache = model.new_cache(padding)
    return model.next_logits(tokens, cache), cache


def _tokenizer(content: dict[str, Any], path: Path) -> Tokenizer:
    """The tokenizer in a model file; a checkpoint says in which folder its text lies."""
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
