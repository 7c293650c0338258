"""Pairs of a term's name and its definition, from the biomedical ontologies."""

from collections.abc import Iterator

from ..ontologies import read_terms
from .pairs import Pair


def read_ontology(name: str) -> Iterator[Pair]:
    """Label and synonyms of each term in use, each paired with the term's definition, in the order of the file."""
    for term in read_terms(name, "requirements-distillation.txt"):
        for query in dict.fromkeys([term.label, *term.synonyms]):
            yield Pair(query, term.definition, ())
