"""Find before the first training what trainings would refuse: each file is read once, and each network is built once
and shown two windows."""

import json
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from tabulate import tabulate

from ...engine.rows import Rows
from ...study.fields import Section
from ...study.identity import canonical
from ...study.parts import Checked
from ...study.plan import BaseTraining, Experiment, Plan
from ...study.problems import refusals
from .data import Windows, join, read_windows
from .dataset import SMARTWATCH_CHANNELS, SMARTWATCH_CLASSES
from .folder import SPLITS
from .labels import check_parts, n_classes_of, n_outputs_of
from .models import Standardised, build_model, last_layer, try_out
from .specs import BaseSpec, DataIdentity, FinetuneSpec, Model
from .train import base_windows, require_kind, target_windows

MOST_COUNTED = 12  # classes whose counts fit side by side

Place = tuple[str, str, str]  # folder, person, part


def check(plan: Plan, missing: Collection[str]) -> Checked:
    """Check every file that a training of the plan reads, except in the `missing` folders, and every network."""
    trainings = [*plan.bases.values(), *plan.experiments.values()]
    samples: dict[Place, Windows] = {}
    places = {place: one.spec.data for one in trainings for place in _places(one)}
    here = [place for place in places if place[0] not in missing]
    of_files = refusals(partial(_read, samples, place) for place in here)
    table = _table(samples)
    samples |= {place: _stand_in(data) for place, data in places.items() if place[0] in missing}
    trial = _Trial(samples)
    whole = [training for training in trainings if samples.keys() >= set(_places(training))]  # else: reported above
    return Checked(of_files + refusals(partial(trial.of, training) for training in whole), table)


def _places(training: BaseTraining | Experiment) -> Iterator[Place]:
    spec = training.spec
    assert isinstance(spec, BaseSpec | FinetuneSpec)
    people = spec.participants if isinstance(spec, BaseSpec) else (spec.target,)
    yield from ((training.data, person, split) for person in people for split in SPLITS)


def _read(samples: dict[Place, Windows], place: Place) -> None:
    """Read and check a file; keep all of its labels, and its first window, which stands for all."""
    windows = read_windows(*place)
    first = windows.x.between(0, 1).clone().expand(len(windows), -1, -1)
    samples[place] = Windows(Rows([first]), windows.y, windows.name, recording=windows.recording)


def _stand_in(data: Section) -> Windows:
    """Windows of the shape that built-in data will have, so that networks can be tried before it is prepared."""
    assert isinstance(data, DataIdentity) and data.window_size
    y = torch.arange(SMARTWATCH_CLASSES).repeat(2)  # of two arms
    x = torch.zeros(1, SMARTWATCH_CHANNELS, data.window_size).expand(len(y), -1, -1)
    return Windows(Rows([x]), y, f"the {data.name} data", recording=torch.arange(len(y)) // SMARTWATCH_CLASSES)


class _Trial:
    """Does with samples what `train` does with all windows, except the training."""

    def __init__(self, windows: Mapping[Place, Windows]):
        self.windows = windows
        self.bases: dict[str, dict[str, Any]] = {}  # what the file of a base model will say about it, by hash
        self.tried: dict[tuple, Standardised] = {}

    def of(self, training: BaseTraining | Experiment) -> None:
        expect, read = json.loads(training.expect), partial(self._read, training.data)
        if isinstance(training, BaseTraining):
            assert isinstance(training.spec, BaseSpec)
            self._base(training.hash, training.spec, *base_windows(training.spec, read, expect))
        else:
            assert isinstance(training.spec, FinetuneSpec)
            self._finetune(training.spec, target_windows(training.spec, read, expect))

    def _base(self, name: str, spec: BaseSpec, train: Windows, test: Windows) -> None:
        if spec.parent and spec.parent not in self.bases:
            return  # the parent itself was refused
        known = self.bases[spec.parent] if spec.parent else _described(spec, spec.model, train)
        if spec.parent:
            require_kind(known, spec.parent, train, "the base windows")
        self._try(known, train)
        check_parts({"train": train, "test": test}, known["n_classes"], "base")
        self.bases[name] = known

    def _finetune(self, spec: FinetuneSpec, parts: dict[str, Windows]) -> None:
        train = parts["train"]
        if spec.base and spec.base not in self.bases:
            return
        if spec.base:
            known = self.bases[spec.base]
            require_kind(known, spec.base, train, f"windows of {spec.target}")
        else:
            assert spec.model is not None  # it is trained from scratch
            known = _described(spec, spec.model, train)
        model = self._try(known, train)
        if spec.mode == "last_layer_only":
            last_layer(model)
        check_parts(parts, known["n_classes"], f"{spec.target}'s")
        if spec.mode in ("full_fine_tuning", "prototypes") or spec.target_batch_pct:
            join(known["windows"], train)

    def _try(self, known: dict[str, Any], train: Windows) -> Standardised:
        """The network, built and tried out once for each shape of windows."""
        key = (canonical(known["model"]), known["n_outputs"], *train.x.shape[1:])
        if key not in self.tried:
            model = build_model(known["model"], known["in_channels"], known["n_outputs"])
            try_out(model, train.x.between(0, 2), known["n_outputs"])
            self.tried[key] = model
        return self.tried[key]

    def _read(self, folder: str, people: tuple[str, ...], splits: tuple[str, ...]) -> Windows:
        return join(*(self.windows[folder, person, split] for person in people for split in splits))


def _described(spec: BaseSpec | FinetuneSpec, model: Model, train: Windows) -> dict[str, Any]:
    n_classes = n_classes_of(train, spec)
    shape = {"in_channels": train.x.shape[1], "binary": train.is_binary, "windows": train}
    return shape | {"n_classes": n_classes, "n_outputs": n_outputs_of(train, n_classes), "model": model}


def _table(windows: Mapping[Place, Windows]) -> list[str]:
    """One row per person: the number of windows of each part, and how many are of each class."""
    lines: list[str] = []
    for folder in dict.fromkeys(folder for folder, _, _ in windows):
        here = {place[1:]: sample.y for place, sample in windows.items() if place[0] == folder}
        n_classes = max(int(y.max()) for y in here.values()) + 1
        people = sorted({person for person, _ in here})
        rows = [[person, *(_cell(here.get((person, split)), n_classes) for split in SPLITS)] for person in people]
        head = [folder, *(f"{split}: windows (of each class)" for split in SPLITS)]
        lines += tabulate(rows, head, tablefmt="simple", disable_numparse=True).splitlines()
        lines += _gap(folder, here, n_classes)
    return lines


def _gap(folder: str, labels: Mapping[tuple[str, str], torch.Tensor], n_classes: int) -> list[str]:
    """A note if nobody has some class below the highest: the highest may be a stray label, which adds outputs."""
    counts = torch.stack([torch.bincount(y.long(), minlength=n_classes) for y in labels.values()]).sum(dim=0)
    if not (gaps := torch.nonzero(counts == 0).flatten().tolist()):
        return []
    who, part = next(place for place, y in labels.items() if int(y.max()) == n_classes - 1)
    first = f"{len(gaps)} classes, {gaps[0]} the first," if len(gaps) > 1 else f"class {gaps[0]}"
    count = f"{counts[-1]} window{'s' * (int(counts[-1]) != 1)}"
    return [
        f"note: {folder}: nobody has {first} below class {n_classes - 1}, of {count} in all ({who}'s {part} part); is it right?"
    ]


def _cell(y: torch.Tensor | None, n_classes: int) -> str:
    if y is None:
        return "refused"
    counts = torch.bincount(y.long(), minlength=n_classes).tolist()
    if n_classes > MOST_COUNTED:
        return f"{len(y)} ({sum(count > 0 for count in counts)} of {n_classes} classes)"
    return f"{len(y)} ({' '.join(map(str, counts))})"
