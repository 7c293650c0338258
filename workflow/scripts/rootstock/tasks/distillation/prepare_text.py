"""Turn pairs into a prepared text: unique queries and passages, and a split that never separates near-duplicates."""

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ...store.files import write_json
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical
from ...study.problems import Problems, Refusal
from ..ontologies import ONTOLOGIES
from .dataset import pair_files
from .duplicates import Groups, join_near_duplicates, normalised
from .ontologies import read_ontology
from .pairs import Pair, read_pairs
from .specs import PreparedSpec, TextIdentity
from .text import NONE, SPLITS, write_array, write_lines


def prepare_text(spec: PreparedSpec, folder: Path, say: Callable[[str], None]) -> None:
    """Write the files that `Text` reads into `folder`, `manifest.json` last."""
    collected = Collected(spec.text.max_queries)
    datasets = list(_datasets(spec))
    for number, (_, found) in enumerate(datasets):
        for pair in found:
            collected.add(pair, number)
    passage_split = np.array(split_of(collected, spec.text), dtype=np.uint8)
    pairs = np.array(collected.pairs, dtype=np.int32).reshape(-1, 2)
    query_split = np.zeros(len(collected.queries.texts), dtype=np.uint8)
    query_split[pairs[:, 0]] = passage_split[pairs[:, 1]]
    _check(spec, passage_split, pairs)
    write_lines(folder / "queries.txt", collected.queries.texts)
    write_lines(folder / "passages.txt", collected.passages.texts)
    write_array(folder / "pairs.npy", pairs)
    write_array(folder / "negatives.npy", collected.negatives_array())
    write_array(folder / "query_split.npy", query_split)
    write_array(folder / "passage_split.npy", passage_split)
    write_array(folder / "pair_dataset.npy", np.array(collected.datasets, dtype=np.uint8))
    counts = {
        name: {
            "pairs": int((query_split[pairs[:, 0]] == number).sum()),
            "queries": int((query_split == number).sum()),
            "passages": int((passage_split == number).sum()),
        }
        for number, name in enumerate(SPLITS)
    }
    manifest = {
        "spec": json.loads(canonical(spec)),
        "datasets": [name for name, _ in datasets],
        "counts": counts,
        "sources": [ONTOLOGIES[name].licence for name in spec.text.ontologies or ()],
    }
    write_json(folder / "manifest.json", manifest)
    say(f"{len(pairs)} pairs of {len(passage_split)} passages: {json.dumps(counts)}")


class Unique:
    """Texts numbered from 0 in order of arrival. Texts that differ only in case or punctuation count as the first."""

    def __init__(self):
        self.number: dict[str, int] = {}
        self.texts: list[str] = []

    def add(self, text: str) -> int:
        text = one_line(text)
        key = normalised(text) or text  # a text of punctuation alone is its own key
        if key not in self.number:
            self.number[key] = len(self.texts)
            self.texts.append(text)
        return self.number[key]


class Collected:
    """Pairs of all data sets, each once."""

    def __init__(self, max_queries: int | None = None):
        self.max_queries = max_queries
        self.queries, self.passages = Unique(), Unique()
        self.pairs: list[tuple[int, int]] = []
        self.datasets: list[int] = []
        self.negatives: list[list[int]] = []
        self.queries_of: dict[int, set[int]] = defaultdict(set)

    def add(self, pair: Pair, dataset: int) -> None:
        """Add a pair, unless its passage already has this query or `max_queries` queries."""
        if normalised(pair.query) == normalised(pair.positive):
            return  # finding a text by itself teaches nothing and measures nothing
        passage = self.passages.add(pair.positive)
        known = self.queries_of[passage]
        if len(known) == self.max_queries:
            return
        query = self.queries.add(pair.query)
        if query in known:
            return
        known.add(query)
        self.pairs.append((query, passage))
        self.datasets.append(dataset)
        self.negatives.append([self.passages.add(text) for text in pair.negatives])

    def negatives_array(self) -> np.ndarray:
        """int32 [pairs, largest number of negatives], padded with -1."""
        width = max((len(row) for row in self.negatives), default=0)
        array = np.full((len(self.negatives), width), NONE, dtype=np.int32)
        for row, negatives in zip(array, self.negatives, strict=True):
            row[: len(negatives)] = negatives
        return array


def split_of(collected: Collected, identity: TextIdentity) -> list[int]:
    """The split of each passage. Near-duplicates and passages that share a query stay together.

    Groups are shuffled by `identity.seed` and dealt out until test, then val, has its share of the passages, so each
    share is exact to within one group.
    """
    total = len(collected.passages.texts)
    groups = Groups(total)
    join_near_duplicates(list(collected.passages.number), groups)
    passages_of: dict[int, list[int]] = defaultdict(list)
    for query, passage in collected.pairs:
        passages_of[query].append(passage)
    for same_query in passages_of.values():
        for passage in same_query[1:]:
            groups.join(same_query[0], passage)
    members: dict[int, list[int]] = defaultdict(list)
    for passage in range(total):
        members[groups.of(passage)].append(passage)
    order = list(members)
    random.Random(identity.seed).shuffle(order)
    split, dealt = [0] * total, 0
    _, val, test = identity.split
    for group in order:
        number = 2 if dealt < round(test * total) else 1 if dealt < round((test + val) * total) else 0
        dealt += len(members[group])
        for passage in members[group]:
            split[passage] = number
    return split


def one_line(text: str) -> str:
    """The text in NFC, with every run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _datasets(spec: PreparedSpec) -> Iterator[tuple[str, Iterable[Pair]]]:
    if spec.path is None:
        for name in spec.text.ontologies or ():
            yield name, read_ontology(name)
        return
    problems = Problems()
    files = pair_files(spec.path, "data.path", problems)
    if problems.lines:
        raise Refusal(problems.lines[0])
    if Fingerprints().of(files) != spec.text.content:
        raise Refusal(f"data.path: {spec.path} changed since it was planned; run the study again")
    for file in files:
        yield file.stem, read_pairs(file)


def _check(spec: PreparedSpec, passage_split: np.ndarray, pairs: np.ndarray) -> None:
    what = spec.path or "data.ontologies"
    for number, name in enumerate(SPLITS):
        if not (passage_split[pairs[:, 1]] == number).any():
            raise Refusal(
                f"data.split: {what} gives no pair for {name} ({len(pairs)} pairs in all, near-duplicates together); "
                "give more pairs or another split"
            )
