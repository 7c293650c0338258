"""Find near-duplicate passages, so that a split never separates them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

SHINGLE_WORDS = 3
SIMILARITY = (
    0.6  # Jaccard; on the ontologies the largest group has 2 % of the definitions; at 0.5 it has three times as many
)


def normalised(text: str) -> str:
    """Lower-case words without punctuation. Texts that are equal in this form count as one text."""
    return " ".join(re.findall(r"\w+", text.lower()))


class Groups:
    """Disjoint sets of 0 … n-1 that can be joined (union-find with path halving)."""

    def __init__(self, n: int):
        self.parent = list(range(n))

    def of(self, i: int) -> int:
        """The representative of the group of i."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        i, j = self.of(i), self.of(j)
        self.parent[max(i, j)] = min(i, j)


def join_near_duplicates(texts: Sequence[str], groups: Groups) -> None:
    """Join texts (normalised) whose sets of three-word shingles have a Jaccard similarity of `SIMILARITY` or more.

    Exact, by prefix filtering (Bayardo et al. 2007, All-Pairs): with shingles ordered from rare to common, two sets
    that are similar enough share one of their first n - ceil(n * SIMILARITY) + 1, so only those are looked up.
    """
    sets = [_shingles(text) for text in texts]
    frequency = Counter(shingle for shingles in sets for shingle in shingles)
    seen: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(sets)), key=lambda i: len(sets[i])):
        ordered = sorted(sets[i], key=lambda shingle: (frequency[shingle], shingle))
        prefix = ordered[: len(ordered) - math.ceil(SIMILARITY * len(ordered)) + 1]
        for j in dict.fromkeys(_all(seen[shingle] for shingle in prefix)):
            if groups.of(i) != groups.of(j) and _jaccard(sets[i], sets[j]) >= SIMILARITY:
                groups.join(i, j)
        for shingle in prefix:
            seen[shingle].append(i)


def _shingles(text: str) -> frozenset[str]:
    words = text.split()
    return frozenset(" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1)))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def _all(lists: Iterable[list[int]]) -> Iterable[int]:
    for entries in lists:
        yield from entries
