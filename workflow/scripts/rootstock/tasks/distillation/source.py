"""Where text and pretrained models come from, and the identity of each. Light: reads names, sizes and JSON, no weights."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, short_digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .packaged import MODELS, packaged_folder
from .settings import (
    BaseSpec,
    Data,
    DataIdentity,
    FinetuneSpec,
    ModelIdentity,
    PreparedSpec,
    TeacherIdentity,
    TextIdentity,
)

RECIPE = 1  # raise it when prepared text or vectors change their meaning, never for a comment

ONTOLOGY_PACKAGE = ("cellxgene-ontology-guide", "1.11.1")
ONTOLOGY_DEFAULTS = {"ontologies": ("mondo", "uberon", "cl", "efo", "pato"), "max_queries": 3}
SPLIT = (0.83, 0.03, 0.14)
PAIR_FILES = (".jsonl", ".parquet")


class Ontology(NamedTuple):
    """One ontology of the package: its release, what it is about, whose it is and under which licence."""

    release: str
    subject: str
    licence: str


ONTOLOGIES = {
    "mondo": Ontology("v2026-05-05", "diseases", "Mondo Disease Ontology, CC BY 4.0"),
    "uberon": Ontology("v2026-04-01", "anatomy", "Uberon, CC BY 3.0"),
    "cl": Ontology("v2026-03-26", "cell types", "Cell Ontology, CC BY 4.0"),
    "efo": Ontology("v3.90.0", "experimental factors", "Experimental Factor Ontology, Apache 2.0"),
    "pato": Ontology("v2025-05-14", "qualities", "Phenotype And Trait Ontology, CC BY 3.0"),
}


@dataclass(frozen=True)
class Pretrained:
    """A model as far as it is known without loading it."""

    identity: ModelIdentity
    config: dict[str, Any] | None  # its config.json, where it lies on this machine
    dimension: int | None  # of the sentence vectors it gives as a teacher

    @property
    def width(self) -> int | None:
        """Dimensions of its token vectors."""
        return self.config and next((self.config[k] for k in ("hidden_size", "dim") if k in self.config), None)

    @property
    def n_layers(self) -> int | None:
        return self.config and next(
            (self.config[k] for k in ("num_hidden_layers", "n_layers") if k in self.config), None
        )


def pretrained(name: str, key: str, fingerprints: Fingerprints, problems: Problems) -> Pretrained | None:
    """The model that a name or a folder means; None where a fault was reported."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(name, folder, key, fingerprints, problems)
    full = name if "/" in name else f"sentence-transformers/{name}"
    if full in MODELS:
        packaged = MODELS[full]
        config = {"hidden_size": packaged.dimension, "num_hidden_layers": packaged.layers}
        version = f"{packaged.packages[0]}-{packaged.version}"
        return Pretrained(ModelIdentity(name=full, version=version), config, packaged.dimension)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not all(full.split("/")):
        problems.add(key, name, "no such folder; check the path, or give a name such as all-MiniLM-L6-v2")
        return None
    cached = _cached(full)
    if cached is None and os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        fix = "is not on this machine and HF_HUB_OFFLINE forbids to fetch it; give a folder, or fetch it first"
        problems.add(key, name, fix)
        return None
    config = _read_json(cached / "config.json") if cached else None
    return Pretrained(ModelIdentity(name=full), config, _sentence_dimension(cached, config) if cached else None)


def locate(identity: ModelIdentity) -> str:
    """Where the weights of a model are loaded from: a folder on this machine, else its name on the hub."""
    if identity.version is not None:
        return str(packaged_folder(identity.name))
    if identity.content is None:
        return identity.name
    folder = Path(identity.name).expanduser()
    if not folder.is_dir() or _fingerprint(folder, Fingerprints()) != identity.content:
        raise Refusal(f"{identity.name}: is gone or changed since it was planned; plan again")
    return str(folder)


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults: the ontologies where no path is given; a path must hold pairs."""
    split = data.split or SPLIT
    if abs(sum(split) - 1) > 1e-6:
        problems.add(f"{key}.split", list(split), "needs three shares that sum to 1")
    if data.path is None:
        given = {name: getattr(data, name) or default for name, default in ONTOLOGY_DEFAULTS.items()}
        ordered = tuple(name for name in ONTOLOGIES if name in given["ontologies"])
        return data.model_copy(update={"name": "ontologies", "split": split, **given, "ontologies": ordered})
    for name in ("name", "ontologies"):
        if getattr(data, name) is not None:
            problems.add(f"{key}.{name}", getattr(data, name), "does not go with data.path (your own pairs); remove it")
    pair_files(data.path, f"{key}.path", problems)
    return data.model_copy(update={"split": split})


def pair_files(path: str, key: str, problems: Problems) -> list[Path]:
    """The files of pairs that a path names: itself, or all in a folder; each is a data set."""
    found = Path(path).expanduser()
    if found.is_dir():
        files = sorted(file for file in found.iterdir() if file.suffix in PAIR_FILES)
        if not files:
            problems.add(key, path, "holds no .jsonl or .parquet file; put pairs there")
        return files
    if found.suffix not in PAIR_FILES:
        problems.add(key, path, "is neither a .jsonl or .parquet file nor a folder of such; check the path")
        return []
    if not found.is_file():
        problems.add(key, path, "no such file; check the path (it is taken from the project's folder)")
        return []
    if found.stat().st_size == 0:
        problems.add(key, path, "is empty; give lines of query and positive")
    return [found]


def identity_of(data: Data, fingerprints: Fingerprints, problems: Problems) -> DataIdentity | None:
    """The text and the vectors that a data section means; None where a fault was reported."""
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


def artefact(data: Data) -> Artefact | None:
    """The teacher's vectors, which need the text."""
    identity = identity_of(data, Fingerprints(), Problems())
    if identity is None:
        return None
    text = Artefact(f"text_{short_digest(identity.text)}", PreparedSpec(text=identity.text, path=data.path))
    vectors = PreparedSpec(text=identity.text, path=data.path, teacher=identity.teacher)
    return Artefact(f"teacher_{short_digest(identity)}", vectors, needs=(text,), on_gpu=True)


def prepared_text(folder: Path) -> Path:
    """The folder of the text whose vectors lie in `folder`: beside it, named in its manifest."""
    return folder.parent / manifest_of(folder)["text"]


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder; `Refusal` where it is not prepared whole."""
    try:
        return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"{folder}: is not prepared ({error}); prepare it or check --data_path") from None


def check_data(spec: BaseSpec | FinetuneSpec, base: BaseSpec | None, folder: str) -> None:
    """Refuse vectors that are not those that the specs name."""
    found = manifest_of(Path(folder)).get("spec", {})
    for what, wanted in (
        ("was planned with", spec.data),
        *((("the base model learned on", base.data),) if base else ()),
    ):
        identity = {"text": found.get("text"), "teacher": found.get("teacher")}
        if identity != json.loads(canonical(wanted)):
            raise Refusal(f"data: {folder} holds {canonical(identity)}; {what} {canonical(wanted)}; plan again")


def _text_identity(data: Data, fingerprints: Fingerprints) -> TextIdentity:
    common = {"recipe": RECIPE, "max_queries": data.max_queries, "split": data.split, "seed": data.split_seed}
    if data.path is None:
        return TextIdentity(name="ontologies", version="-".join(ONTOLOGY_PACKAGE), ontologies=data.ontologies, **common)
    return TextIdentity(name="pairs", content=fingerprints.of(pair_files(data.path, "", Problems())), **common)


def _in_folder(name: str, folder: Path, key: str, fingerprints: Fingerprints, problems: Problems) -> Pretrained | None:
    config = _read_json(folder / "config.json")
    if config is None:
        problems.add(
            key, name, "holds no config.json; give the folder of a transformers or sentence-transformers model"
        )
        return None
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model")):
        problems.add(key, name, "holds no tokenizer (tokenizer.json); save the model's tokenizer there too")
        return None
    identity = ModelIdentity(name=name, content=_fingerprint(folder, fingerprints))
    return Pretrained(identity, config, _sentence_dimension(folder, config))


def _fingerprint(folder: Path, fingerprints: Fingerprints) -> str:
    """The content of a model's folder: its files in order of their names."""
    files = (file for file in folder.rglob("*") if file.suffix in (".json", ".txt", ".safetensors", ".bin", ".model"))
    return fingerprints.of(sorted(file for file in files if file.is_file()))


def _cached(name: str) -> Path | None:
    """A model's newest snapshot in the hub's cache on this machine."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = [p.parent for p in hub.glob(f"models--{name.replace('/', '--')}/snapshots/*/config.json")]
    return max(snapshots, key=lambda p: p.stat().st_mtime, default=None)


def _sentence_dimension(folder: Path, config: dict[str, Any] | None) -> int | None:
    """Dimensions of the sentence vectors: of the last Dense module, else of the pooling, else of the token vectors."""
    modules = _read_json(folder / "modules.json") or []
    for module in reversed(modules):
        settings = _read_json(folder / module.get("path", "") / "config.json") or {}
        for name in ("out_features", "word_embedding_dimension", "embedding_dimension"):
            if name in settings:
                return settings[name]
    return (config or {}).get("hidden_size")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
