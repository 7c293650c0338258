"""Pairs of a term's name and its definition, from the biomedical ontologies that cellxgene-ontology-guide ships."""

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ...study.problems import Refusal
from .pairs import Pair
from .source import ONTOLOGIES, ONTOLOGY_PACKAGE


def read_ontology(name: str) -> Iterator[Pair]:
    """Label and synonyms of each living term, each paired with the term's definition, in the order of the file."""
    for term in _terms(name).values():
        if term.get("deprecated") or not term.get("description"):
            continue
        for query in dict.fromkeys([term["label"], *term.get("synonyms", [])]):
            yield Pair(query, term["description"], ())


def _terms(name: str) -> dict[str, dict]:
    import zstandard

    with open(_file(name), "rb") as file:
        return json.loads(zstandard.ZstdDecompressor().stream_reader(file).read())


def _file(name: str) -> Path:
    package, version = ONTOLOGY_PACKAGE
    try:
        found = distribution(package)
    except PackageNotFoundError:
        fix = "pip install -r requirements-distillation.txt"
        raise Refusal(f"data.name: ontologies come with the package {package}=={version}; {fix}") from None
    if found.version != version:
        raise Refusal(f"data.name: ontologies are {package} {version}, but {found.version} is installed; install it")
    release = ONTOLOGIES[name].release
    return Path(found.locate_file(f"cellxgene_ontology_guide/data/{name.upper()}-ontology-{release}.json.zst"))
