"""The part `tasks` of `gpu.py`: each task's tiny study, which the tests train too."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tiny import TINY

from rootstock import load_model
from rootstock.engine import loop
from rootstock.job.job import Job
from rootstock.job.prepare import prepare
from rootstock.job.train import train
from rootstock.store.objects import StoredObject, stored
from rootstock.study import paths
from rootstock.study.config import parse_study
from rootstock.study.plan import Plan
from rootstock.study.planner import make_plan
from rootstock.study.run import Run
from rootstock.tasks.registry import BUILT_IN, TASKS

SCRIPTS = Path(__file__).resolve().parent.parent / "workflow/scripts"
KILLED_AFTER = 7  # steps; a checkpoint is written every four
SPLIT_SECONDS = 90


def tasks(tell: Callable[..., None], device: torch.device, folder: Path, quick: bool = False) -> None:
    """A base and a fine-tune of each task: trained twice, killed and resumed, and the base split over two processes."""
    for task in list(BUILT_IN)[: 1 if quick else None]:
        home, began = folder / task, time.perf_counter()
        home.mkdir()
        with contextlib.chdir(home):
            try:
                TINY[task].write(home / "data/tiny")
                for kind, training in _trainings(_planned(task)):
                    tell(f"{task}: {kind}", **_alone(training, device, home))
                if not quick:
                    tell(f"{task}: base in two processes", **_split(task, device, home))
            except Exception as error:
                tell(task, failed=f"{type(error).__name__}: {error}".splitlines()[0][:200])
        tell(f"{task}: all of it", seconds=time.perf_counter() - began)


def _planned(task: str, *more: dict) -> Plan:
    content = TINY[task].content(*more)
    planned = make_plan(*parse_study({"study": "gpu"} | content, TASKS))
    for artefact in reversed(planned.artefacts.values()):  # an artefact is planned before what it needs
        prepare(planned.study.task, artefact.spec, paths.prepared(artefact.name), say=lambda _: None)
    return planned


def _trainings(planned: Plan) -> Iterator[tuple[str, Any]]:
    for base in planned.bases.values():
        yield "base", base
    for tuned in planned.experiments.values():
        yield "fine-tune", tuned


def _alone(training: Any, device: torch.device, home: Path) -> dict[str, str]:
    straight, again = (_trained(training, device, home, store) for store in ("straight", "again"))
    with contextlib.suppress(_Killed), _killed_after(KILLED_AFTER):
        _trained(training, device, home, "killed")
    resumed = _trained(training, device, home, "killed")
    where = {parameter.device.type for parameter in load_model(straight.model).parameters()}
    return {
        "on": straight.read()["run"]["device_used"],
        "again": _bits(straight, again),
        "resumed": _bits(straight, resumed)
        if resumed.read()["trained_steps"] < straight.read()["steps"]
        else "not killed",
        "loads on": ", ".join(where),
    }


def _trained(training: Any, device: torch.device, home: Path, store: str) -> StoredObject:
    job = Job(
        training.spec,
        training.data,
        str(home / store),
        expect=json.loads(training.expect),
        run=Run(device=device.type, checkpoint_steps=4),
        say=lambda _: None,
    )
    if base := getattr(training, "base", None):
        model = Path(paths.base_model(base))
        stored(home / "straight", base).publish_base(model, paths.base_metadata(model))
    return train(job)


class _Killed(BaseException):
    """Stands for SIGKILL; nothing in the program may catch it."""


@contextlib.contextmanager
def _killed_after(steps: int) -> Iterator[None]:
    whole, taken = loop.seed_step, 0

    def begin_step(*key: int) -> None:
        nonlocal taken
        taken += 1
        if taken > steps:
            raise _Killed
        whole(*key)

    loop.seed_step = begin_step
    try:
        yield
    finally:
        loop.seed_step = whole


def _bits(one: StoredObject, other: StoredObject) -> str:
    return "same bits" if one.model.read_bytes() == other.model.read_bytes() else "other bits"


def _split(task: str, device: torch.device, home: Path) -> dict[str, Any]:
    """Train the base of the steady study in one process and in two on one GPU; report the largest loss difference."""
    (base,) = _planned(task, TINY[task].steady).bases.values()
    began = time.perf_counter()
    _trained(base, device, home, "one")
    command = [sys.executable, str(SCRIPTS / "train_base.py"), "--spec", base.json, "--data_path", base.data]
    command += ["--expect", base.expect, "--device", device.type, "--store", "two", "--processes", "2"]
    command += ["--gpus", "1" if device.type == "cuda" else "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SPLIT_SECONDS)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
    one, two = (json.loads(next(Path(store).glob("*/metadata.json")).read_text()) for store in ("one", "two"))
    epochs = list(zip(one["history"], two["history"], strict=False))
    apart = [abs(a[name] - b[name]) for a, b in epochs for name in ("train_loss", "val_loss")]
    return {
        "processes": two["run"]["world_size"],
        "epochs": f"{len(one['history'])} and {len(two['history'])}",
        "losses_apart": max(apart),
        "seconds": time.perf_counter() - began,
    }
