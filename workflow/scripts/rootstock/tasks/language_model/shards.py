"""Tokens on disk: shards that are mapped into memory, each with an index of its documents; documents as one stream.

A shard is `<domain>-<split>-<number>` with `.tokens` (uint16 or uint32), `.index` (int64: where each document begins,
and the end) and, written last, `.json`, which names its text and tokenizer. All processes map the same file. One
process per core prepares text, so torch, which is slow to load, is not imported here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ...store.files import write_atomically, write_json
from ...study.identity import sha256_file, sha256_text
from ...study.problems import Refusal
from .settings import SPLITS
from .tokenizer import end_of_text, load_tokenizer

TEXTS_AT_ONCE = 64  # to save memory: while a text is encoded, a token takes a hundred bytes


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared text: its manifest, read and checked."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def vocab_size(self) -> int:
        return self.manifest["vocab_size"]

    @property
    def domains(self) -> list[str]:
        return sorted(self.manifest["domains"])

    @property
    def tokenizer(self) -> str:
        """The text of the tokenizer.json."""
        return (self.folder / "tokenizer.json").read_text(encoding="utf-8")

    def documents(self, domain: str, split: str) -> int:
        return sum(shard["documents"] for shard in self.manifest["domains"][domain][split])

    def stream(self, domains: Sequence[str], split: str, share: float = 1.0, seed: int = 0) -> "TokenStream":
        """All documents of these domains in a split, or a seeded `share` of each domain's. A share has at least one
        document, and a larger share contains a smaller one."""
        pieces = []
        for domain in domains:
            shards = [self._open(shard["name"]) for shard in self.manifest["domains"][domain][split]]
            pieces += _pieces(shards, _chosen(self.documents(domain, split), share, seed))
        return TokenStream(pieces)

    def _open(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.memmap(self.folder / f"{name}.tokens", dtype=token_type(self.vocab_size), mode="r")
        return tokens, np.fromfile(self.folder / f"{name}.index", dtype=np.int64)


def open_prepared(folder: str | Path) -> Prepared:
    """Open a prepared folder. Raise `Refusal` where the tokenizer is not that of its shards, or a file has another size
    than recorded."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        found = sha256_file(folder / "tokenizer.json")
    except (OSError, ValueError) as error:
        raise Refusal(f"{folder}: holds no prepared text ({error}); run the study again") from None
    if found != manifest["tokenizer_sha256"]:
        raise Refusal(
            f"{folder}: tokenizer.json is not the one its shards were made with; delete the folder and run the study again"
        )
    size = np.dtype(token_type(manifest["vocab_size"])).itemsize
    for shard in (shard for splits in manifest["domains"].values() for split in SPLITS for shard in splits[split]):
        file = folder / f"{shard['name']}.tokens"
        if not file.is_file() or file.stat().st_size != size * shard["tokens"]:
            raise Refusal(f"{file}: missing or not of the size recorded; delete {folder} and run the study again")
    return Prepared(folder, manifest)


def write_shard(folder: Path, name: str, texts: list[str], tokenizer_path: Path) -> dict[str, Any]:
    """Tokenise `texts` into a shard, unless that very shard exists; return its description. Runs in its own process."""
    identity = {"text": sha256_text("\0".join(texts)), "tokenizer": sha256_file(tokenizer_path)}
    try:
        described = json.loads((folder / f"{name}.json").read_text())
        if described["made_of"] == identity and "bytes" in described:
            return described
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing or incomplete, so it is made now
    tokenizer = _tokenizer(tokenizer_path, identity["tokenizer"])
    end = end_of_text(tokenizer)
    kind, encoded = token_type(tokenizer.get_vocab_size()), []
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        found = tokenizer.encode_batch_fast(texts[begin : begin + TEXTS_AT_ONCE], add_special_tokens=False)
        encoded += [np.array([*encoding.ids, end], kind) for encoding in found]
    index = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    tokens = np.concatenate(encoded)
    write_atomically(folder / f"{name}.tokens", tokens.tobytes())
    write_atomically(folder / f"{name}.index", index.tobytes())
    size = sum(len(text.encode()) for text in texts)
    described = {"name": name, "made_of": identity, "documents": len(texts), "tokens": len(tokens), "bytes": size}
    write_json(folder / f"{name}.json", described)
    return described


@lru_cache(maxsize=1)
def _tokenizer(file: Path, sha256: str) -> Tokenizer:
    """The tokenizer of a file with this sha256, loaded once per process: each one that is dropped leaks a few MB."""
    return load_tokenizer(file)


def token_type(vocab_size: int) -> type:
    return np.uint16 if vocab_size <= 2**16 else np.uint32


class TokenStream:
    """An endless stream of documents, each ended by its end-of-text token. After the last document comes the first."""

    def __init__(self, pieces: list[np.ndarray]):
        self.pieces = pieces
        self.ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)

    def __len__(self) -> int:
        """Tokens of one pass over all documents."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, start: int, length: int) -> np.ndarray:
        """`length` tokens from position `start` on, int64."""
        found = np.empty(length, dtype=np.int64)
        filled, start = 0, start % len(self)
        number = int(np.searchsorted(self.ends, start, side="right"))
        while filled < length:
            piece = self.pieces[number]
            begin = 0 if filled else start - (int(self.ends[number]) - len(piece))
            part = piece[begin : begin + length - filled]
            found[filled : filled + len(part)] = part
            filled += len(part)
            number = (number + 1) % len(self.pieces)
        return found

    def windows(self, starts: Sequence[int], length: int) -> np.ndarray:
        """Tokens int64 [N, length] from each of the positions `starts` [N]."""
        return np.stack([self.read(start, length) for start in starts])


def _chosen(count: int, share: float, seed: int) -> np.ndarray | None:
    """The documents of a domain that a share selects, sorted; None for all."""
    if share == 1.0:
        return None
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: max(1, round(share * count))])


def _pieces(shards: list[tuple[np.ndarray, np.ndarray]], chosen: np.ndarray | None) -> list[np.ndarray]:
    """Slices of mapped shards: a whole shard, or each chosen document by itself."""
    if chosen is None:
        return [tokens for tokens, _ in shards]
    pieces, first = [], 0
    for tokens, index in shards:
        own = chosen[(chosen >= first) & (chosen < first + len(index) - 1)] - first
        pieces += [tokens[index[number] : index[number + 1]] for number in own]
        first += len(index) - 1
    return pieces
