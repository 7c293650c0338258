"""A real study killed at random moments with SIGKILL: the training, the controller, or all at once; then run to its end.

`make test-kill KILLS=200` is the long one. Every model and metric must equal the undisturbed run's, bit for bit, and no
kill may cost more steps than lie between two checkpoints.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest
from conftest import Project
from forks import Forked
from tiny import TINY

# Without it three kills of the first task and one of each other: what they have in common is the engine.
KILLS = os.environ.get("KILLS")
CHECKPOINT_STEPS = 5
COUNTING = Path(__file__).parent / "counting"
STUDY = ("--configfile", "study.yaml")
TRAININGS = (*STUDY, "--until", "train_finetune")


@dataclass
class Storm:
    """What was killed, when, and what it cost."""

    kinds: Counter = field(default_factory=Counter)
    moments: Counter = field(default_factory=Counter)
    recovered: int = 0
    lost: int = 0
    extra_steps: int = 0

    @property
    def kills(self) -> int:
        return self.kinds.total()

    @property
    def next_kind(self) -> str:
        return ("all", "training", "controller")[self.kills % 3]


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(TINY))
def test_a_study_survives_kills_at_random_moments(tmp_path, task, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(COUNTING))
    calm = tiny_project(tmp_path / "calm", task)
    monkeypatch.setenv("ROOTSTOCK_STEPS", str(calm / "steps"))
    calm.snakemake(*TRAININGS)
    kills = int(KILLS or (3 if task == "activity" else 1))
    expected, storm, generator = results(calm), Storm(), random.Random(kills)
    for number in range(kills):  # a study that ends before enough kills is followed by another
        if storm.kills >= kills:
            break
        stormy = tiny_project(tmp_path / f"stormy{number}", task)
        if (calm / "prepared").exists():  # trainings are what is killed
            shutil.copytree(calm / "prepared", stormy / "prepared")
        monkeypatch.setenv("ROOTSTOCK_STEPS", str(stormy / "steps"))
        before = storm.kills
        while storm.kills < kills and disturb(stormy, storm, generator):
            pass
        last = stormy.snakemake(*STUDY)  # orphans are waited for, by their locks
        found, extra = results(stormy), steps(stormy) - steps(calm)
        storm.recovered += len(found)
        storm.lost += len(expected.keys() - found.keys())
        storm.extra_steps += extra
        told = f"{(stormy / 'run.log').read_text()[-20000:]}\n=== the last run\n{last.stdout}\n{last.stderr}"
        assert found.keys() == expected.keys(), told
        assert [name for name in found if found[name] != expected[name]] == [], told
        assert extra <= (storm.kills - before) * CHECKPOINT_STEPS * 2, (
            "two trainings run at once, each loses one interval"
        )
        assert leftovers(stormy) == []
        assert published(stormy) == published(calm)
    whole = sum(storm.moments[moment] for moment in ("training", "checkpoint", "commit", "publish"))
    print(
        f"\n{task}: kills {dict(storm.kinds)}, moments of the trainings killed {dict(storm.moments)}, recovered {storm.recovered} models, "
        f"lost {storm.lost}, extra steps {storm.extra_steps} of {steps(calm)} (a checkpoint every {CHECKPOINT_STEPS})"
    )
    assert storm.lost == 0 and storm.kills == kills
    if KILLS:  # a share of few would be luck
        assert whole >= 0.8 * storm.moments.total()


@pytest.mark.parametrize("task", ["activity", "language_model"])
def test_a_job_that_outlives_its_controller_leaves_nothing_undone(tmp_path, task):
    """Its output is there, whole, and Snakemake holds it for incomplete: what comes after it must run all the same."""
    project = tiny_project(tmp_path / "project", task)
    project.study("study", TINY[task].content())
    controller = start(project)
    while not jobs_of(project):
        time.sleep(0.02)
    kill(controller.pid)
    controller.wait(60)
    while jobs_of(project):
        time.sleep(0.1)
    assert list(project.folder.glob("base_models/*.pt" if task == "activity" else "prepared/*/manifest.json"))
    project.snakemake(*STUDY)
    assert list(project.folder.glob("experiments/*/*/metrics.json")) and (project / "results/study/table.txt").exists()


def tiny_project(folder: Path, task: str) -> Project:
    folder.mkdir()
    project, tiny = Project(folder), TINY[task]
    tiny.write(folder / "data/tiny")
    run = {"checkpoint_steps": CHECKPOINT_STEPS, "warm": task in ("activity", "own")}  # both ways to start are killed
    project.study("study", tiny.content(tiny.long, {"run": run}))
    return project


def disturb(project: Project, storm: Storm, generator: random.Random) -> bool:
    """Start the study, and kill something at a random moment after it began to train; False where it ended before."""
    begun = steps(project)
    controller = start(project, TRAININGS)
    while steps(project) == begun:
        if controller.poll() is not None:
            assert controller.returncode == 0, (project / "run.log").read_text()[-3000:]
            return False
        time.sleep(0.005)
    time.sleep(generator.uniform(0, 1.5))
    kind, victims = storm.next_kind, trainings(project)
    if not victims or controller.poll() is not None:
        controller.wait(600)
        return False
    if kind == "training":
        victims = victims[:1]
    logs = [log for pid in victims if (log := log_of(pid))] if kind != "controller" else []
    if kind != "training":
        kill(controller.pid)
    if kind != "controller":
        for pid in victims:
            kill(pid)
        time.sleep(0.05)
        storm.moments.update(moment(project, log) for log in logs)
    storm.kinds[kind] += 1
    if kind == "training":
        os.kill(controller.pid, signal.SIGINT)  # it would go on with the other jobs, undisturbed
        with contextlib.suppress(subprocess.TimeoutExpired):
            controller.wait(20)
        kill(controller.pid)
        for pid in trainings(project):
            kill(pid)
    controller.wait(60)
    return True


def start(project: Project, flags: tuple[str, ...] = STUDY) -> "subprocess.Popen | Forked":
    return project.start("snakemake", *flags, log="run.log")


def trainings(project: Project) -> list[int]:
    """Processes of this project that train."""
    return jobs_of(project, b"train_base.py", b"train_finetune.py")


def jobs_of(project: Project, *scripts: bytes) -> list[int]:
    """Processes of this project that run one of `scripts`, else any, found by command and working folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            ours = os.readlink(entry / "cwd") == str(project.folder.resolve())
            if ours and any(part.endswith(scripts or b".py") for part in command[:2]):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def log_of(pid: int) -> TextIO | None:
    """The log of a process, which stays readable where Snakemake has removed the file for the job that comes after."""
    try:
        return open(f"/proc/{pid}/fd/1")
    except OSError:  # it ended meanwhile
        return None


def moment(project: Project, log: TextIO) -> str:
    """Where a killed process was, told by what it said and what it left on disk."""
    with log:
        said = log.read()
    begun = re.search(r"training ([0-9a-f]{16})", said)
    if begun is None:  # loading, or waiting for an orphan
        return "start"
    folder = project / f".rootstock/store/{begun[1]}"
    if (folder / "metadata.json").exists():
        return "publish"
    if (folder / "model.pt").exists() or list(folder.glob(".*.*.*.*")):
        return "commit"
    checkpoints = folder / "checkpoints"
    described = {file.stem for file in checkpoints.glob("step_*.json")}
    if list(checkpoints.glob(".*.*.*.*")) or {file.stem for file in checkpoints.glob("step_*.pt")} != described:
        return "checkpoint"
    return "training"


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def steps(project: Project) -> int:
    """Training steps begun so far, by all processes of the project."""
    file = project / "steps"
    return file.stat().st_size if file.exists() else 0


def results(project: Project) -> dict[str, bytes]:
    """Model bytes and the numbers of every finished training, by hash."""
    found = {}
    for folder in (project / ".rootstock/store").iterdir():
        if (folder / "metadata.json").exists():
            metadata = json.loads((folder / "metadata.json").read_text())
            numbers = json.dumps([metadata["metrics"], metadata["history"]], sort_keys=True)
            found[folder.name] = (folder / "model.pt").read_bytes() + numbers.encode()
    return found


def published(project: Project) -> set[str]:
    """The files of the contract, beside the store."""
    return {name for name in project.files() if name.startswith(("experiments/", "base_models/"))}


def leftovers(project: Project) -> list[str]:
    """What a finished study must not leave under its final folders: checkpoints and halves."""
    return sorted(name for name in project.files() if "/checkpoints/step_" in name)
