"""Turn text into tokens, once for all trainings: split documents, train a tokenizer, write shards in parallel.

After a kill, the next run keeps the shards that are whole and belong to the same text and tokenizer.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from ...store.files import write_atomically, write_json
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, sha256_file
from ...study.problems import Refusal
from ...study.run import Run
from .dataset import files_by_domain, tokenizer_files
from .settings import SPLITS
from .shards import write_shard
from .specs import PreparedSpec
from .text import documents, split_of
from .tokenizer import given_tokenizer, load_tokenizer, train_tokenizer

SHARD_CHARACTERS = 8_000_000
TOKENIZER_CHARACTERS = 100_000_000  # a BPE learns nothing more from text beyond this

Shard = tuple[str, str, str, list[str]]  # domain, split, name, texts


def prepare(spec: PreparedSpec, folder: Path, run: Run, say: Callable[[str], None]) -> None:
    """Write tokenizer and shards into `folder`, `manifest.json` last. Raise `Refusal` where the text has changed or a
    split is empty."""
    check = partial(_check_unchanged, spec, Fingerprints())
    check()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(spec, folder, check)
    content: dict[str, dict[str, list]] = {name: {split: [] for split in SPLITS} for name in spec.domains}
    for (domain, split, *_), described in _in_parallel(folder, _shards(spec), tokenizer):
        content[domain][split].append({key: described[key] for key in ("name", "documents", "tokens", "bytes")})
    check()
    _check_filled(content)
    for domain, splits in content.items():
        counts = {split: sum(shard["tokens"] for shard in splits[split]) for split in SPLITS}
        say(f"{domain}: " + ", ".join(f"{count} tokens to {split}" for split, count in counts.items()))
    manifest = {
        "spec": json.loads(canonical(spec)),
        "domains": content,
        "vocab_size": load_tokenizer(tokenizer).get_vocab_size(),
        "tokenizer_sha256": sha256_file(tokenizer),
    }
    write_json(folder / "manifest.json", manifest)


def _check_unchanged(spec: PreparedSpec, fingerprints: Fingerprints) -> None:
    """Raise `Refusal` where a file changed since the spec was made: its tokens would get another text's name."""
    files = files_by_domain(Path(spec.path)) if spec.path else {}
    for domain, planned in (spec.content or {}).items():
        if fingerprints.of(files.get(domain, [])) != planned:
            raise Refusal(f"data.path: {spec.path} changed since it was planned ({domain}); run the study again")
    if spec.tokenizer_path and fingerprints.of(tokenizer_files(spec.tokenizer_path)) != spec.tokenizer:
        raise Refusal(f"data.tokenizer: {spec.tokenizer_path} changed since it was planned; run the study again")


def _tokenizer(spec: PreparedSpec, folder: Path, check: Callable[[], None]) -> Path:
    """The given tokenizer, or a BPE trained on the train split; a BPE from an interrupted run is kept.

    The folder's name stands for the text that the BPE was trained on, so none is written if the text changed meanwhile.
    Shards record their own text.
    """
    file = folder / "tokenizer.json"
    if spec.tokenizer_path is not None:
        write_atomically(file, given_tokenizer(tokenizer_files(spec.tokenizer_path)).encode())
    elif not file.exists():
        assert spec.vocab_size is not None  # set if no tokenizer is given
        texts = (d.text for name in spec.domains for d in documents(spec, name) if split_of(d, spec.split) == "train")
        trained = train_tokenizer(_limited(texts), spec.vocab_size).to_str(pretty=True)
        check()
        write_atomically(file, trained.encode())
    return file


def _limited(texts: Iterator[str]) -> Iterator[str]:
    read = 0
    for text in texts:
        yield text
        read += len(text)
        if read > TOKENIZER_CHARACTERS:
            return


def _shards(spec: PreparedSpec) -> Iterator[Shard]:
    """The texts of each shard: documents of one domain and split, in order."""
    for domain in spec.domains:
        texts: dict[str, list[str]] = {split: [] for split in SPLITS}
        sizes, numbers = dict.fromkeys(SPLITS, 0), dict.fromkeys(SPLITS, 0)
        for document in documents(spec, domain):
            split = split_of(document, spec.split)
            texts[split].append(document.text)
            sizes[split] += len(document.text)
            if sizes[split] >= SHARD_CHARACTERS:
                yield domain, split, f"{domain}-{split}-{numbers[split]:05d}", texts[split]
                texts[split], sizes[split], numbers[split] = [], 0, numbers[split] + 1
        for split in SPLITS:
            if texts[split]:
                yield domain, split, f"{domain}-{split}-{numbers[split]:05d}", texts[split]


def _in_parallel(folder: Path, shards: Iterator[Shard], tokenizer: Path) -> Iterator[tuple[Shard, dict]]:
    """Yield each shard with its description, in order. At most two shards per core are submitted, to save memory."""
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")  # a fork would inherit the tokenizer library's threads
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        waiting: list[tuple[Shard, Future]] = []

        def submit(count: int) -> None:
            for shard in islice(shards, count):
                waiting.append((shard, pool.submit(write_shard, folder, shard[2], shard[3], tokenizer)))

        submit(2 * workers)
        while waiting:
            shard, future = waiting.pop(0)
            yield shard, future.result()
            submit(1)


def _one_thread() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _check_filled(content: dict[str, dict[str, list]]) -> None:
    for domain, splits in content.items():
        for split in SPLITS:
            if not splits[split]:
                raise Refusal(
                    f"data: domain {domain} has no {split} document; give it more text, or another data.split"
                )
