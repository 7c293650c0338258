"""Biomedical prose from the ontologies: one document per term, with its definition."""

from collections.abc import Iterator

from ..ontologies import read_terms
from .dataset import ONTOLOGIES, Document


def read_ontology(domain: str) -> Iterator[Document]:
    """`label: definition` of every term in use of a domain, in the order of the file.

    Documents are split by their definition, because two ontologies often share one under two labels.
    """
    for term in read_terms(ONTOLOGIES[domain], "requirements-language_model.txt"):
        definition = " ".join(term.definition.split())
        if definition:
            yield Document(f"{term.label}: {definition}", definition)
