"""Pretrained models: which one a name or folder means, and its properties. Light: reads names and JSON, no weights."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...study.fields import is_path
from ...study.fingerprints import Fingerprints
from ...study.problems import Problems, Refusal
from ..folders import config_of, folder_of, is_count, odd_counts, unchanged_folder
from .packaged import MODELS, packaged_folder
from .specs import ModelIdentity

DROPOUT_PAIRS = (  # keys of a config.json by model family: dropout of hidden states, of attention
    {"hidden_dropout_prob", "attention_probs_dropout_prob"},
    {"hidden_dropout", "attention_dropout"},
    {"dropout", "attention_dropout"},
)
DROPOUTS = sorted(set().union(*DROPOUT_PAIRS))
HUB_SECONDS = 10  # to wait for the hub's answer whether it has a model
SIZES = ("hidden_size", "dim", "num_hidden_layers", "n_layers")  # the keys of a config.json that are read here


@dataclass(frozen=True)
class Pretrained:
    """What is known of a model without loading it."""

    identity: ModelIdentity
    config: dict[str, Any] | None  # its config.json, if that lies on this machine
    dimension: int | None  # of the sentence vectors it gives as a teacher

    @property
    def width(self) -> int | None:
        """Dimensions of its token vectors."""
        return self._first_of("hidden_size", "dim")

    @property
    def n_layers(self) -> int | None:
        return self._first_of("num_hidden_layers", "n_layers")

    @property
    def own_dropout(self) -> float | None:
        """Its only dropout rate. None if its rates differ, or if not every machine can know them: a model named on the
        hub may be in the cache of a single machine."""
        if not (self.identity.content or self.identity.version):
            return None
        rates = {name: rate for name, rate in (self.config or {}).items() if name in DROPOUTS}
        first, *others = rates.values() or (None,)
        return first if rates.keys() in DROPOUT_PAIRS and others == [first] else None

    def _first_of(self, *names: str) -> int | None:
        config = self.config or {}
        return next((config[name] for name in names if is_count(config.get(name))), None)


def pretrained(name: str, key: str, fingerprints: Fingerprints, problems: Problems) -> Pretrained | None:
    """The model that a name or a folder means; None after reporting a fault."""
    folder = folder_of(name)
    if folder.is_dir():
        return _in_folder(name, folder, key, fingerprints, problems)
    full = name if "/" in name else f"sentence-transformers/{name}"
    if full in MODELS:
        packaged = MODELS[full]
        config = {"hidden_size": packaged.dimension, "num_hidden_layers": packaged.layers}
        config |= dict.fromkeys(DROPOUT_PAIRS[0], packaged.dropout)
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
    config = config_of(cached) if cached else None
    return Pretrained(ModelIdentity(name=full), config, _sentence_dimension(cached, config) if cached else None)


def locate(identity: ModelIdentity, key: str) -> str:
    """Return where a model's weights are loaded from: a folder on this machine, else its name on the hub. Raise
    `Refusal`, which names the setting `key`, where neither has them."""
    if identity.name is not None and identity.version is not None:
        return str(packaged_folder(identity.name))
    if identity.name is not None:
        return _fetched(identity.name) or _on_hub(identity.name, key)
    return str(unchanged_folder(identity.folder, identity.content, _fingerprint, key))


def _fetched(name: str) -> str | None:
    """The folder of a model in the hub's cache on this machine; None if its weights are not there."""
    folder = _cached(name)
    is_there = folder is not None and any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir())
    return str(folder) if is_there else None


def _on_hub(name: str, key: str) -> str:
    """Return `name`, or raise `Refusal` where the hub does not have it. This asks the hub once, because the libraries
    that fetch a model ask repeatedly for each of its many files."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except Exception as error:  # from huggingface_hub, from the HTTP library below it, or from the system
        reason = (f"{error}".splitlines() or [type(error).__name__])[0][:160]
        fix = "fetch it where there is a network (hf download), or give a folder"
        raise Refusal(
            f"{key}: {name} is not on this machine and not to be had from the hub ({reason}); {fix}"
        ) from None
    return name


def _in_folder(name: str, folder: Path, key: str, fingerprints: Fingerprints, problems: Problems) -> Pretrained | None:
    config = config_of(folder)
    if config is None:
        fix = "holds no config.json that can be read; give the folder of a transformers or sentence-transformers model"
        problems.add(key, name, fix)
        return None
    if odd := next(odd_counts(config, (size for size in SIZES if size in config)), None):
        problems.add(key, name, odd)
        return None
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model")):
        problems.add(key, name, "holds no tokenizer (tokenizer.json); save the model's tokenizer there too")
        return None
    identity = ModelIdentity(folder=name, content=_fingerprint(folder, fingerprints))
    return Pretrained(identity, config, _sentence_dimension(folder, config))


def _fingerprint(folder: Path, fingerprints: Fingerprints) -> str:
    """The fingerprint of a model's folder: its files, sorted by name."""
    files = (file for file in folder.rglob("*") if file.suffix in (".json", ".txt", ".safetensors", ".bin", ".model"))
    return fingerprints.of(sorted(file for file in files if file.is_file()))


def _cached(name: str) -> Path | None:
    """A model's newest snapshot in the hub's cache on this machine."""
    home = Path(os.path.expanduser(os.environ.get("HF_HOME", "~/.cache/huggingface")))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = [p.parent for p in hub.glob(f"models--{name.replace('/', '--')}/snapshots/*/config.json")]
    return max(snapshots, key=lambda p: p.stat().st_mtime, default=None)


def _sentence_dimension(folder: Path, config: dict[str, Any] | None) -> int | None:
    """Dimensions of the sentence vectors: of the last Dense module, else of the pooling, else of the token vectors."""
    for module in reversed(_modules(folder)):
        settings = config_of(folder / module) or {}
        for name in ("out_features", "word_embedding_dimension", "embedding_dimension"):
            if is_count(settings.get(name)):
                return settings[name]
    return (config or {}).get("hidden_size")


def _modules(folder: Path) -> list[str]:
    """The module folders of a sentence-transformers model, in the order in which the modules run."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [module.get("path", "") for module in modules if is_path(module.get("path", ""))]
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return []  # a plain transformers model, or a faulty file that sentence-transformers will name
