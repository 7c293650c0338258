"""Where windows come from: the built-in recordings or a user's folder, and the identity of what lies there. Light."""

import json
from pathlib import Path

from ...study.fields import NAME
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical, sha256_text, short_digest
from ...study.problems import Problems, Refusal
from ...study.request import Artefact
from .presets import check_presets
from .settings import Data, Scope
from .specs import BaseSpec, DataIdentity, FinetuneSpec

SPLITS = ("train", "val", "test")

SMARTWATCH_VERSION = "seglearn-1.2.5"
SMARTWATCH_PEOPLE = tuple(f"s{n:02d}" for n in range(1, 11))
SMARTWATCH_DEFAULTS = {
    "window_size": 200,  # 4 s at 50 Hz
    "window_stride": 100,
    "split": (0.6, 0.2, 0.2),
    "pad": False,
    "mirror": False,
}


def complete_data(data: Data, key: str, problems: Problems) -> Data:
    """The data section with its defaults: the smartwatch recordings where no folder is named."""
    if data.path is not None:
        for name in ("name", *SMARTWATCH_DEFAULTS):
            if name != "window_size" and getattr(data, name) is not None:
                problems.add(
                    f"{key}.{name}", getattr(data, name), "does not go with data.path (ready-made windows); remove it"
                )
        return data
    if data.n_classes is not None:
        problems.add(f"{key}.n_classes", data.n_classes, "is known for smartwatch; remove it")
    given = {k: v for k, v in data if v is not None}
    return Data(**{"name": "smartwatch", **SMARTWATCH_DEFAULTS, **given})


def complete_scope(scope: Scope, data: Data, key: str, problems: Problems) -> Scope:
    """The scope with its participants: all of the data where none are listed; each one's files must exist."""
    check_presets(scope.models, problems)
    known = SMARTWATCH_PEOPLE if data.path is None else _people_in(Path(data.path), problems)
    people = scope.participants or known
    for name in sorted({p for p in people if people.count(p) > 1}):
        problems.add(f"{key}participants", name, "is listed twice; list each once")
    for name in dict.fromkeys(people):
        if data.path is None and name not in known:
            problems.unknown(f"{key}participants", name, known)
        elif data.path is not None:
            for file in _files(Path(data.path), name):
                if Path(data.path).is_dir() and not file.is_file():
                    problems.add(
                        "data.path", str(file), f"no such file; put it there or remove {name} from participants"
                    )
    return scope.model_copy(update={"participants": tuple(people)})


def location(data: Data) -> Artefact | str:
    """The user's folder, or the windows that are prepared of a built-in data set."""
    if data.path is not None:
        return data.path
    identity = identity_of(data, (), Fingerprints())
    return Artefact(f"smartwatch_{short_digest(identity)}", identity)


def identity_of(data: Data, people: tuple[str, ...], fingerprints: Fingerprints) -> DataIdentity:
    if data.path is None:
        settings = {name: getattr(data, name) for name in SMARTWATCH_DEFAULTS}
        return DataIdentity(name="smartwatch", version=SMARTWATCH_VERSION, **settings)
    contents = {name: fingerprints.of(_files(Path(data.path), name)) for name in people}
    return DataIdentity(name="folder", n_classes=data.n_classes, content=sha256_text(canonical(contents)))


def identity_at(folder: Path, spec: BaseSpec | FinetuneSpec) -> DataIdentity:
    """The identity of what lies in `folder` now, seen as the spec describes its data."""
    people = spec.participants if isinstance(spec, BaseSpec) else (spec.target,)
    try:
        if spec.data.name == "folder":
            contents = {name: Fingerprints().of(_files(folder, name)) for name in people}
            return spec.data.model_copy(update={"content": sha256_text(canonical(contents))})
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in (file for name in people for file in _files(folder, name)):
            if Fingerprints().of([file]) != manifest["content"][file.name]:
                raise Refusal(f"{file}: changed since it was prepared; delete {folder} and run again")
        return DataIdentity.model_validate(manifest["spec"])
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{folder}: no data for {', '.join(people)} ({error}); prepare it or check --data_path") from None


def _files(folder: Path, participant: str) -> list[Path]:
    return [folder / f"{participant}_{split}.pt" for split in SPLITS]


def _people_in(folder: Path, problems: Problems) -> tuple[str, ...]:
    if not folder.is_dir():
        problems.add("data.path", str(folder), "no such folder; check the path")
        return ()
    names = sorted(file.name.removesuffix("_train.pt") for file in folder.glob("*_train.pt"))
    names = tuple(name for name in names if NAME.fullmatch(name) and ".." not in name)
    if len(names) < 2:
        problems.add(
            "data.path", str(folder), "needs {participant}_train.pt, _val.pt and _test.pt of two people or more"
        )
    return names
