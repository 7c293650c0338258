"""Where text lies and what identifies it: the built-in ontologies by version, a folder by its content. Light."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...study.fields import NAME
from ...study.fingerprints import Fingerprints
from ...study.identity import digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .settings import GENERAL, BaseSpec, Data, FinetuneSpec, PreparedSpec, Scope, TextIdentity

ONTOLOGIES_VERSION = "cellxgene-ontology-guide-1.11.1"
ONTOLOGIES = {
    "diseases": "MONDO",
    "anatomy": "UBERON",
    "cells": "CL",
    "chemicals": "CHEBI",
    "factors": "EFO",
    "qualities": "PATO",
}
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
FORMATS = (".txt", ".jsonl", ".parquet")
DEFAULT_SPLIT = (0.9, 0.05, 0.05)
DEFAULT_VOCABULARY = 4096


@dataclass(frozen=True)
class Document:
    """One text, and the text that decides, normalised, in which split it lies: equal keys never part."""

    text: str
    key: str


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults; faults are reported under `key`."""
    if data.name and data.path:
        problems.add(f"{key}.path", data.path, f"stands beside name: {data.name}; remove one of them")
    if data.tokenizer is not None and data.vocab_size is not None:
        problems.add(f"{key}.vocab_size", data.vocab_size, "is for a tokenizer to be trained; remove it or tokenizer")
    values = {"split": data.split or DEFAULT_SPLIT}
    if abs(sum(values["split"]) - 1) > 1e-6:
        problems.add(f"{key}.split", list(values["split"]), "needs shares of train, val and test that sum to 1")
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


def complete_scope(scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
    """The scope with every domain of the data where the study names none."""
    for name in scope.domains or ():
        if data.domains and name not in data.domains:
            problems.unknown(f"{key}domains", name, data.domains)
    return scope.model_copy(update={"domains": tuple(dict.fromkeys(scope.domains or data.domains))})


def identity_of(data: Data, fingerprints: Fingerprints) -> TextIdentity:
    """What names the text of a complete data section."""
    files = {} if data.path is None else files_by_domain(Path(data.path))
    tokenizer = data.tokenizer and fingerprints.of(tokenizer_files(data.tokenizer))
    return TextIdentity(
        name="folder" if data.path else data.name,
        version=None if data.path else ONTOLOGIES_VERSION,
        domains=data.domains,
        content={name: fingerprints.of(files[name]) for name in data.domains} if data.path else None,
        tokenizer=tokenizer,
        vocab_size=data.vocab_size,
        split=data.split,
    )


def data_folder(data: Data) -> str:
    """The folder of a text that needs no preparation: there is none."""
    raise ValueError("text is always prepared")


def artefact(data: Data) -> Artefact:
    """The tokens of a text, made once for all studies and processes; named by what identifies the text."""
    identity = identity_of(data, Fingerprints())
    spec = PreparedSpec(**dict(identity), path=data.path, tokenizer_path=data.tokenizer)
    return Artefact(f"text-{digest(identity)}", spec)


def files_by_domain(folder: Path) -> dict[str, list[Path]]:
    """The text files of a folder: those in a subfolder belong to the domain of its name, others to that of theirs."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in FORMATS and file.is_file():
            first = file.relative_to(folder).parts[0]
            found.setdefault(first if first != file.name else file.stem, []).append(file)
    return found


def tokenizer_files(given: str) -> list[Path]:
    """The files that a user's path means: a tokenizer.json, or GPT-2's pair in a folder; none where there is neither."""
    path = Path(given)
    if not path.is_dir():
        return [path] if path.is_file() and path.suffix == ".json" else []
    for names in TOKENIZER_FILES:
        if all((path / name).is_file() for name in names):
            return [path / name for name in names]
    return []


def check_data(spec: BaseSpec | FinetuneSpec, base_spec: BaseSpec | None, folder: str) -> None:
    """Refuse prepared tokens that are of another text than the spec, or the base model, says."""
    identity = spec.data
    if base_spec is not None and digest(base_spec.data) != digest(identity):
        raise Refusal(f"base model {spec.base}: learned from another text or tokenizer; fine-tune it on its own")
    try:
        prepared = json.loads((Path(folder) / "manifest.json").read_text())["spec"]
    except (OSError, ValueError, KeyError, TypeError):
        raise Refusal(f"{folder}: holds no prepared text (no manifest.json that can be read); run make run") from None
    found = TextIdentity(**{name: v for name, v in prepared.items() if name in TextIdentity.model_fields})
    if digest(found) != digest(identity):
        raise Refusal(f"{folder}: holds another text than the one planned ({digest(found)}, not {digest(identity)})")


def _domains_there(data: Data, key: str, problems: Problems) -> tuple[str, ...]:
    if data.path is None:
        return tuple(ONTOLOGIES)
    folder = Path(data.path)
    if not folder.is_dir():
        problems.add(f"{key}.path", data.path, "is not a folder; give the folder that holds your text files")
        return ()
    files = files_by_domain(folder)
    for file in (file for group in files.values() for file in group if not file.stat().st_size):
        problems.add(f"{key}.path", str(file), "is empty; remove it or give it text")
    if not files:
        problems.add(f"{key}.path", data.path, f"holds no text; put {', '.join(FORMATS)} files into it")
    return tuple(sorted(_named(files, key, problems)))


def _named(domains: dict[str, list[Path]], key: str, problems: Problems) -> Iterator[str]:
    for name in domains:
        if name == GENERAL:
            problems.add(f"{key}.path", name, "is what all text together is called here; name that domain otherwise")
        elif NAME.fullmatch(name) and ".." not in name:
            yield name
        else:
            problems.add(f"{key}.path", name, "is no name for a domain; use letters, digits, '.', '_' and '-'")
