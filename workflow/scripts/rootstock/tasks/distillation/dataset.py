"""Where the text comes from, which teacher's vectors of it are learned, and the identity of both. Light: no torch."""

import json
import os
from pathlib import Path
from typing import Any

from ...study.fingerprints import Fingerprints
from ...study.identity import short_digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .. import ontologies
from .pretrained import pretrained
from .settings import Data
from .specs import BaseSpec, DataIdentity, FinetuneSpec, PreparedSpec, TeacherIdentity, TextIdentity

RECIPE = 1  # raise it when prepared text or vectors change their meaning, never for a comment

ONTOLOGY_DEFAULTS: dict[str, Any] = {"ontologies": ("mondo", "uberon", "cl", "efo", "pato"), "max_queries": 3}
SPLIT = (0.83, 0.03, 0.14)
PAIR_FILES = (".jsonl", ".parquet")


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults: the ontologies if no path is given. A path must hold pairs."""
    split = data.split or SPLIT
    if data.path is None:
        given = {name: getattr(data, name) or default for name, default in ONTOLOGY_DEFAULTS.items()}
        ordered = tuple(name for name in ontologies.ONTOLOGIES if name in given["ontologies"])
        return data.model_copy(update={"name": "ontologies", "split": split, **given, "ontologies": ordered})
    for name in ("name", "ontologies"):
        if getattr(data, name) is not None:
            problems.add(f"{key}.{name}", getattr(data, name), "does not go with data.path (your own pairs); remove it")
    pair_files(data.path, f"{key}.path", problems)
    return data.model_copy(update={"split": split})


def pair_files(path: str, key: str, problems: Problems) -> list[Path]:
    """The files of pairs that a path names: the file itself, or all in a folder. Each file is a data set."""
    found = Path(os.path.expanduser(path))
    if found.is_dir():
        files = sorted(file for file in found.iterdir() if file.suffix.lower() in PAIR_FILES)
        if not files:
            problems.add(key, path, "holds no .jsonl or .parquet file; put pairs there")
        return [file for file in files if _is_usable(file, str(file), key, problems)]
    if found.suffix not in PAIR_FILES:
        problems.add(key, path, "is neither a .jsonl or .parquet file nor a folder of such; check the path")
        return []
    return [found] if _is_usable(found, path, key, problems) else []


def _is_usable(file: Path, told: str, key: str, problems: Problems) -> bool:
    """Whether a file may hold pairs, as far as can be seen without reading it; report what is wrong."""
    if not file.is_file():
        problems.add(key, told, "no such file; check the path (it is taken from the project's folder)")
    elif file.suffix not in PAIR_FILES:
        problems.add(key, told, f"is read only under the ending {file.suffix.lower()}; rename it or remove it")
    elif file.stat().st_size == 0:
        problems.add(key, told, "is empty; give lines of query and positive")
    else:
        return True
    return False


def identity_of(data: Data, fingerprints: Fingerprints, problems: Problems) -> DataIdentity | None:
    """The identity of the text and the vectors that a data section describes; None after reporting a fault."""
    teacher = pretrained(data.teacher, "data.teacher", fingerprints, problems)
    if teacher is None:
        return None
    if data.teacher_dim and teacher.dimension and data.teacher_dim != teacher.dimension:
        fix = f"is not what {data.teacher} gives; it gives {teacher.dimension}"
        problems.add("data.teacher_dim", data.teacher_dim, fix)
        return None
    vectors = TeacherIdentity(
        recipe=RECIPE,
        model=teacher.identity,
        dimension=teacher.dimension or data.teacher_dim,
        max_length=data.teacher_max_length,
        precision=data.teacher_precision,
    )
    return DataIdentity(text=_text_identity(data, fingerprints), teacher=vectors)


def location(data: Data) -> Artefact | str:
    """The artefact of the teacher's vectors, which needs that of the text. Trainings never read a user's own folder."""
    identity = identity_of(data, Fingerprints(), Problems())
    assert identity is not None  # else its faults were reported before
    text = Artefact(f"text_{short_digest(identity.text)}", PreparedSpec(text=identity.text, path=data.path))
    vectors = PreparedSpec(text=identity.text, path=data.path, teacher=identity.teacher)
    return Artefact(f"teacher_{short_digest(identity)}", vectors, needs=(text,), on_gpu=True)


def prepared_text(folder: Path) -> Path:
    """The folder of the text whose vectors lie in `folder`: beside it, named in its manifest."""
    return folder.parent / manifest_of(folder)["text"]


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder. Raise `Refusal` where the preparation is incomplete."""
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{folder}: is not prepared ({error}); prepare it or check --data_path") from None


def identity_at(folder: Path, spec: BaseSpec | FinetuneSpec) -> DataIdentity:
    """The identity of the text and the vectors that lie in a prepared folder now."""
    found = manifest_of(folder).get("spec", {})
    try:
        return DataIdentity.model_validate({"text": found.get("text"), "teacher": found.get("teacher")})
    except ValueError:
        raise Refusal(f"{folder}: holds no vectors of a teacher; delete it and run again") from None


def _text_identity(data: Data, fingerprints: Fingerprints) -> TextIdentity:
    common = {"recipe": RECIPE, "max_queries": data.max_queries, "split": data.split, "seed": data.split_seed}
    if data.path is None:
        return TextIdentity(name="ontologies", version=ontologies.IDENTITY, ontologies=data.ontologies, **common)
    return TextIdentity(name="pairs", content=fingerprints.of(pair_files(data.path, "", Problems())), **common)
