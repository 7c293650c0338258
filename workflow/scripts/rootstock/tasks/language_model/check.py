"""Find text and models that trainings would reject, before the first training runs: open each file, and build each
model once, without memory for its weights."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from ...study import paths
from ...study.parts import Checked
from ...study.plan import Plan
from ...study.problems import Refusal, refusals
from .dataset import files_by_domain, tokenizer_files
from .llama_folder import TOKENIZER
from .model import LanguageModel
from .settings import SPLITS, Model
from .shards import open_prepared
from .specs import BaseSpec, FinetuneSpec, PreparedSpec, Pretrained
from .text import read_texts
from .tokenizer import given_tokenizer
from .weights import folder_of_start


def check(plan: Plan, missing: Collection[str]) -> Checked:
    """Open prepared text; of text that is not prepared yet, read the first document of each file."""
    checks: list[Callable[[], Any]] = []
    table: list[str] = []
    for name, artefact in plan.artefacts.items():
        assert isinstance(artefact.spec, PreparedSpec)
        if paths.prepared(name) in missing:
            checks += _of_source(artefact.spec)
        else:
            checks.append(partial(_open, paths.prepared(name), table))
    return Checked(refusals([*checks, *_of_models(plan), *_of_pretrained(plan)]), table)


def _of_source(spec: PreparedSpec) -> Iterator[Callable[[], Any]]:
    if spec.tokenizer_path:
        yield partial(given_tokenizer, tokenizer_files(spec.tokenizer_path))
    files = files_by_domain(Path(spec.path)) if spec.path else {}
    yield from (partial(_begin, file) for domain in spec.domains for file in files.get(domain, ()))


def _begin(file: Path) -> None:
    if not any(text.strip() for text in read_texts(file)):
        raise Refusal(f"{file}: holds no text; remove it or give it some")


def _of_models(plan: Plan) -> Iterator[Callable[[], Any]]:
    specs = [one.spec for one in (*plan.bases.values(), *plan.experiments.values())]
    shapes = [(spec.model, spec.data.vocab_size) for spec in specs if isinstance(spec, BaseSpec | FinetuneSpec)]
    yield from (partial(_build, model, vocab_size or 1) for model, vocab_size in dict.fromkeys(shapes))


def _of_pretrained(plan: Plan) -> Iterator[Callable[[], Any]]:
    """Check what planning did not: that the tokenizers library can read the tokenizer. Weights are read when needed."""
    specs = [training.spec for training in plan.bases.values()]
    begun = {one.start_from.content: one.start_from for one in specs if isinstance(one, BaseSpec) and one.start_from}
    yield from (partial(_read_tokenizer, one) for one in begun.values())


def _read_tokenizer(begun: Pretrained) -> None:
    given_tokenizer([folder_of_start(begun) / TOKENIZER])


def _build(model: Model, vocab_size: int) -> None:
    with torch.device("meta"):  # shapes only
        LanguageModel(vocab_size, model)(torch.zeros(1, model.context_length, dtype=torch.int64))


def _open(folder: str, table: list[str]) -> None:
    """Add one row per domain: the tokens of each split."""
    text = open_prepared(folder)
    found = text.manifest["domains"]
    rows = [[d, *(sum(shard["tokens"] for shard in found[d][split]) for split in SPLITS)] for d in text.domains]
    head = [folder, *(f"{split}: tokens" for split in SPLITS)]
    table += tabulate(rows, head, tablefmt="simple").splitlines()
