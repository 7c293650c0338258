"""Where windows come from: the built-in recordings or a user's folder, and the identity of what lies there. Light."""

import json
from pathlib import Path

from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, sha256_text, short_digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .folder import check_files, files_of, people_in
from .presets import check_presets
from .settings import Data, Scope
from .specs import BaseSpec, DataIdentity, FinetuneSpec

SMARTWATCH_VERSION = "seglearn-1.2.5"
SMARTWATCH_CHANNELS, SMARTWATCH_CLASSES = 6, 7
SMARTWATCH_NAMES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")  # of classes, as in the data set
SMARTWATCH_PEOPLE = tuple(f"s{n:02d}" for n in range(1, 11))
SMARTWATCH_DEFAULTS = {
    "window_size": 200,  # 4 s at 50 Hz
    "window_stride": 100,
    "split": (0.6, 0.2, 0.2),
    "pad": False,
    "mirror": False,
    "split_by": "time",
}
BY_RECORDING = {"split": (0.6, 0.15, 0.25)}  # train and val both train: three quarters in all


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults: the smartwatch recordings if no folder is named."""
    if data.path is not None:
        for name in ("name", *SMARTWATCH_DEFAULTS):
            if name not in ("window_size", "split_by") and getattr(data, name) is not None:
                problems.add(
                    f"{key}.{name}", getattr(data, name), "does not go with data.path (ready-made windows); remove it"
                )
        return data
    if data.n_classes is not None:
        problems.add(f"{key}.n_classes", data.n_classes, "is known for smartwatch; remove it")
    given = {k: v for k, v in data if v is not None}
    defaults = SMARTWATCH_DEFAULTS | (BY_RECORDING if data.split_by == "recording" else {})
    return Data(**{"name": "smartwatch", **defaults, **given})


def complete_scope(scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
    """The scope with its participants: everyone in the data if none are listed. Report faults of people and files."""
    check_presets(scope.models, problems)
    if data.path is not None and not Path(data.path).is_dir():
        problems.add("data.path", data.path, "no such folder; check the path")
    people = scope.participants or _everyone(data, problems)
    for name in sorted({p for p in people if people.count(p) > 1}):
        problems.add(f"{key}participants", name, "is listed twice; list each once")
    for name in dict.fromkeys(people):
        if data.path is None and name not in SMARTWATCH_PEOPLE:
            problems.unknown(f"{key}participants", name, SMARTWATCH_PEOPLE)
        elif data.path is not None and Path(data.path).is_dir():
            check_files(Path(data.path), name, f"{key}participants", problems)
    return scope.model_copy(update={"participants": tuple(people)})


def _everyone(data: Data, problems: Problems) -> tuple[str, ...]:
    """Everyone in the data."""
    if data.path is None:
        return SMARTWATCH_PEOPLE
    return people_in(Path(data.path), problems) if Path(data.path).is_dir() else ()


def location(data: Data) -> Artefact | str:
    """The user's folder, or the prepared windows of a built-in data set."""
    if data.path is not None:
        return data.path
    identity = identity_of(data, (), Fingerprints())
    return Artefact(f"smartwatch_{short_digest(identity)}", identity)


def identity_of(data: Data, people: tuple[str, ...], fingerprints: Fingerprints) -> DataIdentity:
    if data.path is None:
        settings = {name: getattr(data, name) for name in SMARTWATCH_DEFAULTS}
        settings["split_by"] = None if data.split_by == "time" else data.split_by
        return DataIdentity(name="smartwatch", version=SMARTWATCH_VERSION, **settings)
    contents = {name: fingerprints.of(files_of(Path(data.path), name)) for name in people}
    return DataIdentity(name="folder", n_classes=data.n_classes, content=sha256_text(canonical(contents)))


def identity_at(folder: Path, spec: BaseSpec | FinetuneSpec) -> DataIdentity:
    """The identity of the data in `folder` now, for the people of the spec. Raise `Refusal` if files are missing, or
    changed since they were prepared."""
    people = spec.participants if isinstance(spec, BaseSpec) else (spec.target,)
    try:
        if spec.data.name == "folder":
            contents = {name: Fingerprints().of(files_of(folder, name)) for name in people}
            return spec.data.model_copy(update={"content": sha256_text(canonical(contents))})
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in (file for name in people for file in files_of(folder, name)):
            if Fingerprints().of([file]) != manifest["content"][file.name]:
                raise Refusal(f"{file}: changed since it was prepared; delete {folder} and run again")
        return DataIdentity.model_validate(manifest["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{folder}: no data for {', '.join(people)} ({error}); prepare it or check --data_path") from None


def class_names(data: DataIdentity, n_classes: int) -> list[str]:
    """The names of classes: the data set's own, else their numbers."""
    own = SMARTWATCH_NAMES if data.name == "smartwatch" else ()
    return [*own, *map(str, range(len(own), n_classes))]
