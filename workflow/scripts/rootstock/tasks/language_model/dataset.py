"""Where text lies and what identifies it: the built-in ontologies by version, a folder by content. Light: no torch."""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...study.fields import LABEL_RULE, is_label
from ...study.fingerprints import Fingerprints
from ...study.identity import digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .. import ontologies
from .settings import GENERAL, SPLITS, Data
from .specs import NOT_RESUMED, BaseSpec, FinetuneSpec, PreparedSpec, TextIdentity

# Domains of the built-in text, each an ontology.
ONTOLOGIES = {
    "diseases": "mondo",
    "anatomy": "uberon",
    "cells": "cl",
    "chemicals": "chebi",
    "factors": "efo",
    "qualities": "pato",
}
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
FORMATS = (".txt", ".jsonl", ".parquet")
DEFAULT_SPLIT = (0.9, 0.05, 0.05)
DEFAULT_VOCABULARY = 4096


@dataclass(frozen=True)
class Document:
    """A text and its key. The normalised key decides the split, so that texts with equal keys stay together."""

    text: str
    key: str


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults; faults are reported under `key`."""
    if data.name and data.path:
        problems.add(f"{key}.path", data.path, f"stands beside name: {data.name}; remove one of them")
    if data.tokenizer is not None and data.vocab_size is not None:
        problems.add(f"{key}.vocab_size", data.vocab_size, "is for a tokenizer to be trained; remove it or tokenizer")
    values: dict[str, Any] = {"split": data.split or DEFAULT_SPLIT}
    if data.tokenizer is None:
        values["vocab_size"] = data.vocab_size or DEFAULT_VOCABULARY
    elif not tokenizer_files(data.tokenizer):
        fix = "is neither a tokenizer.json nor a folder with one, or with vocab.json and merges.txt"
        problems.add(f"{key}.tokenizer", data.tokenizer, fix)
    values["name"] = data.name or (None if data.path else "ontologies")
    there = _domains_there(data, key, problems)
    for name in data.domains or ():
        if there and name not in there:
            problems.unknown(f"{key}.domains", name, there)
    values["domains"] = tuple(sorted(set(data.domains or there)))
    return data.model_copy(update=values)


def identity_of(data: Data, fingerprints: Fingerprints) -> TextIdentity:
    """The identity of the text that a complete data section describes."""
    files = {} if data.path is None else files_by_domain(Path(data.path))
    tokenizer = data.tokenizer and fingerprints.of(tokenizer_files(data.tokenizer))
    name = "folder" if data.path else data.name
    assert name and data.split  # the section is complete
    return TextIdentity(
        name=name,
        version=None if data.path else ontologies.IDENTITY,
        domains=data.domains or (),
        content={name: fingerprints.of(files[name]) for name in data.domains or ()} if data.path else None,
        tokenizer=tokenizer,
        vocab_size=data.vocab_size,
        split=data.split,
    )


def location(data: Data) -> Artefact | str:
    """The tokens of a text, made once for all studies and processes, and named by the text's identity."""
    identity = identity_of(data, Fingerprints())
    spec = PreparedSpec(**dict(identity), path=data.path, tokenizer_path=data.tokenizer)
    return Artefact(f"text-{digest(identity)}", spec)


def files_by_domain(folder: Path) -> dict[str, list[Path]]:
    """The text files of a folder by domain. A domain is the top subfolder that a file lies in, or else its own name."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in FORMATS and file.is_file():
            first = file.relative_to(folder).parts[0]
            domain = unicodedata.normalize("NFC", first if first != file.name else file.stem)
            found.setdefault(domain, []).append(file)
    return found


def tokenizer_files(given: str) -> list[Path]:
    """The files that a user's path means: a tokenizer.json, or GPT-2's pair in a folder; empty if there is neither."""
    path = Path(given)
    if not path.is_dir():
        return [path] if path.is_file() and path.suffix == ".json" else []
    for names in TOKENIZER_FILES:
        if all((path / name).is_file() for name in names):
            return [path / name for name in names]
    return []


def identity_at(folder: Path) -> TextIdentity:
    """The identity of the text whose tokens lie in a prepared folder now."""
    try:
        prepared = json.loads((folder / "manifest.json").read_text())["spec"]
        return TextIdentity(**{name: v for name, v in prepared.items() if name in TextIdentity.model_fields})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Refusal(f"{folder}: holds no prepared text (no manifest.json that can be read); run make run") from None


def passes(spec: BaseSpec | FinetuneSpec, step: int, data: str) -> float | None:
    """Passes over its text that a training has made after `step` steps; None if the text's manifest cannot be read."""
    if spec.batch_size is None:  # a trunk that is only measured
        return None
    domain = spec.domain if isinstance(spec, FinetuneSpec) else None
    share = spec.target_data_pct if isinstance(spec, FinetuneSpec) else None
    try:
        domains = json.loads((Path(data) / "manifest.json").read_text())["domains"]
        tokens = sum(
            shard["tokens"] for name in ([domain] if domain else domains) for shard in domains[name][SPLITS[0]]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    begun = spec.resumed_from or NOT_RESUMED
    samples = begun.samples + (step - begun.step) * spec.batch_size
    return samples * spec.model.context_length / (tokens * (share or 1.0))


def _domains_there(data: Data, key: str, problems: Problems) -> tuple[str, ...]:
    if data.path is None:
        return tuple(ONTOLOGIES)
    folder = Path(data.path)
    if not folder.is_dir():
        problems.add(f"{key}.path", data.path, "is not a folder; give the folder that holds your text files")
        return ()
    files = files_by_domain(folder)
    for path, why in _passed_over(folder):
        problems.add(f"{key}.path", str(path), why)
    for file in (file for group in files.values() for file in group if not file.stat().st_size):
        problems.add(f"{key}.path", str(file), "is empty; remove it or give it text")
    if not files:
        problems.add(f"{key}.path", data.path, f"holds no text; put {', '.join(FORMATS)} files into it")
    return tuple(sorted(_named(files, key, problems)))


def _passed_over(folder: Path) -> Iterator[tuple[Path, str]]:
    """Paths that look like the user's text but are not read, and why."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and path.is_dir():
            yield path, "is a link to a folder, and none is followed; put its files there"
        elif path.suffix.lower() in FORMATS and not path.is_dir():
            if not path.is_file():
                yield path, "is no file, or a link to none; mend it or remove it"
            elif path.suffix not in FORMATS:
                yield path, f"is read only under the ending {path.suffix.lower()}; rename it or remove it"


def _named(domains: dict[str, list[Path]], key: str, problems: Problems) -> Iterator[str]:
    for name in domains:
        if name == GENERAL:
            problems.add(f"{key}.path", name, "is what all text together is called here; name that domain otherwise")
        elif is_label(name):
            yield name
        else:
            problems.add(f"{key}.path", name, f"is no name for a domain; it needs {LABEL_RULE}")
