"""The biomedical ontologies that the package cellxgene-ontology-guide ships: terms with names and definitions. Light.

Two tasks use them. The package is read as files and never imported; each ontology has its own licence.
"""

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from ..study.problems import Refusal

PACKAGE, VERSION = "cellxgene-ontology-guide", "1.11.1"
IDENTITY = f"{PACKAGE}-{VERSION}"  # as a spec names the data


class Ontology(NamedTuple):
    """One ontology of the package: its release, its subject, and its full name with its licence."""

    release: str
    subject: str
    licence: str


ONTOLOGIES = {
    "mondo": Ontology("v2026-05-05", "diseases", "Mondo Disease Ontology, CC BY 4.0"),
    "uberon": Ontology("v2026-04-01", "anatomy", "Uberon, CC BY 3.0"),
    "cl": Ontology("v2026-03-26", "cell types", "Cell Ontology, CC BY 4.0"),
    "chebi": Ontology("2026-05-01", "chemicals", "ChEBI, CC BY 4.0"),
    "efo": Ontology("v3.90.0", "experimental factors", "Experimental Factor Ontology, Apache 2.0"),
    "pato": Ontology("v2025-05-14", "qualities", "Phenotype And Trait Ontology, CC BY 3.0"),
}


class Term(NamedTuple):
    """A term that has a definition and is not deprecated."""

    label: str
    synonyms: tuple[str, ...]
    definition: str


def read_terms(name: str, requirements: str) -> Iterator[Term]:
    """The terms of an ontology in the order of its file; `requirements` is the file that names the package."""
    import zstandard

    with open(_file(name, requirements), "rb") as packed:
        terms: dict[str, dict[str, Any]] = json.loads(zstandard.ZstdDecompressor().stream_reader(packed).read())
    for term in terms.values():
        if term.get("description") and not term.get("deprecated"):
            yield Term(term["label"], tuple(term.get("synonyms", ())), term["description"])


def _file(name: str, requirements: str) -> Path:
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        fix = f"pip install -r {requirements}"
        raise Refusal(f"data.name: ontologies come with the package {PACKAGE}=={VERSION}; {fix}") from None
    if found.version != VERSION:
        raise Refusal(f"data.name: ontologies are {PACKAGE} {VERSION}, but {found.version} is installed; install it")
    file = f"{name.upper()}-ontology-{ONTOLOGIES[name].release}.json.zst"
    return Path(str(found.locate_file(f"cellxgene_ontology_guide/data/{file}")))
