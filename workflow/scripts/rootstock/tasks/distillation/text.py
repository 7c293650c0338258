"""Prepared text on disk: unique queries and passages, one per line, the pairs between them, and the split."""

import json
from pathlib import Path

import numpy as np

from ...store.files import write_atomically
from ...study.problems import Refusal

SPLITS = ("train", "val", "test")
NONE = -1  # pads rows of negatives


class Lines:
    """The lines of a UTF-8 file, read on demand; the file stays on disk."""

    def __init__(self, file: Path):
        self.content = np.memmap(file, dtype=np.uint8, mode="r")
        self.ends = np.flatnonzero(self.content == ord("\n"))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        start = self.ends[i - 1] + 1 if i else 0
        return bytes(self.content[start : self.ends[i]]).decode()

    def take(self, index: np.ndarray) -> list[str]:
        return [self[int(i)] for i in index]


class Text:
    """What `prepare_text` wrote: `queries`, `passages`, and arrays over them.

    pairs: int32 [N, 2], query and passage of each pair.  negatives: int32 [N, K] passages given by the user, padded
    with -1.  query_split, passage_split, pair_dataset: uint8, positions in `SPLITS` and in the manifest's `datasets`.
    """

    pairs: np.ndarray
    negatives: np.ndarray
    query_split: np.ndarray
    passage_split: np.ndarray
    pair_dataset: np.ndarray

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        try:
            self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            self.queries, self.passages = Lines(folder / "queries.txt"), Lines(folder / "passages.txt")
            for name in ("pairs", "negatives", "query_split", "passage_split", "pair_dataset"):
                setattr(self, name, np.load(folder / f"{name}.npy", mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise Refusal(f"{folder}: no prepared text ({error}); delete the folder and run again") from None

    def pairs_of(self, split: str) -> np.ndarray:
        """Numbers of the pairs of a split."""
        return np.flatnonzero(self.query_split[self.pairs[:, 0]] == SPLITS.index(split))

    def queries_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.query_split == SPLITS.index(split))

    def passages_of(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.passage_split == SPLITS.index(split))

    def positives(self) -> "Positives":
        return Positives(self.pairs, len(self.queries))


class Positives:
    """The true passages of each query, laid out for thousands of lookups."""

    def __init__(self, pairs: np.ndarray, n_queries: int):
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        self.passages = np.ascontiguousarray(pairs[order, 1])
        self.starts = np.searchsorted(pairs[order, 0], np.arange(n_queries + 1))

    def of(self, query: int) -> np.ndarray:
        return self.passages[self.starts[query] : self.starts[query + 1]]

    def mask(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """bool [len(queries), len(passages)]: whether the passage is a true one of the query."""
        return np.stack([np.isin(passages, self.of(int(query))) for query in queries])


def write_lines(file: Path, lines: list[str]) -> None:
    write_atomically(file, "".join(f"{line}\n" for line in lines).encode())


def write_array(file: Path, array: np.ndarray) -> None:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_atomically(file, buffer.getvalue())
