"""Prompts and texts as JSON lines, for programs, in batches and in order. A faulty line is answered with its fault."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import torch
from pydantic import Field
from tokenizers import Tokenizer

from ...machine.private import json_object
from ...study.fields import Section
from ...study.problems import Problems, Refusal
from ...study.validate import read_section
from .chat import read_settings
from .generate import beyond_context, texts_after
from .model import LanguageModel
from .sampling import Sampling
from .tokenizer import encode_prompt


class Line(Section):
    """What a line may have besides the settings of `Sampling`."""

    prompt: str = Field("", description="what the model continues")
    id: Any = Field(None, description="comes back with the text")


class Batches:
    """Answers lines, `size` texts at a time. `seen` counts the copies of a prompt, so that no text depends on the size."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, settings: Sampling, samples: int, size: int):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.samples, self.size = samples, size
        self.first_seed = int(torch.randint(2**62, (1,)).item())  # if none is given
        self.seen: Counter[tuple[str, Sampling]] = Counter()
        self.faults = 0

    def answers(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Yield a mapping for each sample of a line, with `prompt`, `text` and the line's `id`; or with the `error`."""
        texts = (text for number, line in enumerate(lines, 1) for text in self._read(number, line))
        while batch := list(islice(texts, self.size)):
            for settings, same in groupby(batch, key=lambda text: text[0]):
                yield from self._answered(settings, [asked for _, asked in same])

    def _read(self, number: int, line: bytes) -> Iterator[tuple[Sampling | None, dict[str, Any]]]:
        """The texts that a line asks for, each with its settings; for a faulty line, None with the fault."""
        if not line.strip():
            return
        try:
            asked, settings = self._asked(line)
            row = encode_prompt(self.tokenizer, asked.prompt)
        except (Refusal, ValueError) as reason:
            self.faults += 1
            yield None, {"line": number, "error": str(reason)}
            return
        known = {} if asked.id is None else {"id": asked.id}
        for _ in range(self.samples):
            seed = (self.first_seed if settings.seed is None else settings.seed) + self.seen[asked.prompt, settings]
            self.seen[asked.prompt, settings] += 1
            yield settings, {"row": row, "seed": seed, "shown": known | {"prompt": asked.prompt}}

    def _asked(self, line: bytes) -> tuple[Line, Sampling]:
        content, problems = json_object(line.decode()), Problems()
        of_line = {name: value for name, value in content.items() if name not in Sampling.model_fields}
        asked = read_section(Line, of_line, "", problems)
        if not of_line.keys() & {"prompt"}:
            problems.add("prompt", None, "is missing; give the beginning of a text")
        problems.raise_if_any()
        own = {name: value for name, value in content.items() if name in Sampling.model_fields}
        return asked, read_settings(dict(self.settings) | own, "") if own else self.settings

    def _answered(self, settings: Sampling | None, asked: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        if settings is None:
            yield from asked
            return
        rows, seeds = [one["row"] for one in asked], [one["seed"] for one in asked]
        for one, text in zip(asked, texts_after(self.model, self.tokenizer, rows, settings, seeds), strict=True):
            reason = beyond_context(self.model, one["row"])
            yield one["shown"] | {"text": text} | ({"note": reason} if reason else {})


def as_line(answer: dict[str, Any]) -> str:
    """A mapping as one line of JSON."""
    return json.dumps(answer) + "\n"
