"""Biomedical prose from the ontologies that ship with cellxgene-ontology-guide: a term and its definition a document.

Each ontology has a licence of its own: MONDO, CL and ChEBI CC BY 4.0; UBERON and PATO CC BY 3.0; EFO Apache 2.0.
"""

import io
import json
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ...study.problems import Refusal
from .source import ONTOLOGIES, ONTOLOGIES_VERSION, Document


def read_ontology(domain: str) -> Iterator[Document]:
    """`label: definition` of every term of a domain that is not deprecated, in the order of the file.

    The key by which documents are split is the definition: two ontologies often share one under two labels.
    """
    import zstandard

    with open(_file(ONTOLOGIES[domain]), "rb") as packed:
        terms = json.load(io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(packed), encoding="utf-8"))
    for term in terms.values():
        definition = " ".join((term.get("description") or "").split())
        if definition and not term.get("deprecated"):
            yield Document(f"{term['label']}: {definition}", definition)


def _file(ontology: str) -> Path:
    """The newest version of an ontology in the pinned package."""
    try:
        package = distribution("cellxgene-ontology-guide")
    except PackageNotFoundError:
        raise Refusal(
            f"data.name: ontologies comes with {ONTOLOGIES_VERSION}; pip install -r requirements-language_model.txt"
        ) from None
    if f"cellxgene-ontology-guide-{package.version}" != ONTOLOGIES_VERSION:
        raise Refusal(f"data.name: ontologies is {ONTOLOGIES_VERSION}, but {package.version} is installed")
    pattern = re.compile(rf"(?<![A-Za-z]){ontology}-ontology-v?(.+)\.json\.zst$")
    found = {match[1]: file for file in package.files or () if (match := pattern.search(str(file)))}
    return Path(package.locate_file(found[max(found)]))
