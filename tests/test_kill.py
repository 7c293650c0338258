"""A real study killed at random moments with SIGKILL: the training, the controller, or all at once; then run to its end.

`make test-kill KILLS=200` is the long one. Every model and metric must equal the undisturbed run's, bit for bit.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PEOPLE, Project, write_people

KILLS = int(os.environ.get("KILLS", "3"))
CHECKPOINT_STEPS = 5
STUDY = {
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "base": {"max_epochs": 60, "lr": 0.01, "batch_size": 8, "dropout": 0.2, "use_augmentation": True},
    "finetune": {"mode": ["full_fine_tuning", "target_only_fine_tuning"], "max_epochs": 40},
    "run": {"checkpoint_steps": CHECKPOINT_STEPS},
}


def start(project: Project) -> subprocess.Popen:
    snakemake = str(Path(sys.executable).parent / "snakemake")
    command = [snakemake, "--profile", "local", "--cores", "2", "--configfile", "study.yaml"]
    log = open(project / "run.log", "a")  # noqa: SIM115 (the child keeps it)
    return subprocess.Popen(command, cwd=project.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def trainings(project: Project) -> list[int]:
    """Processes of this project that train, found by their command and their working folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            ours = os.readlink(entry / "cwd") == str(project.folder.resolve())
        except (OSError, ValueError):
            continue
        if ours and any(part.endswith((b"train_base.py", b"train_finetune.py")) for part in command[:3]):
            found.append(int(entry.name))
    return found


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def results(project: Project) -> dict[str, bytes]:
    """Model bytes and the numbers of every finished training, by hash."""
    found = {}
    for folder in (project / ".rootstock/store").iterdir():
        if (folder / "metadata.json").exists():
            metadata = json.loads((folder / "metadata.json").read_text())
            numbers = json.dumps([metadata["metrics"], metadata["history"]], sort_keys=True)
            found[folder.name] = (folder / "model.pt").read_bytes() + numbers.encode()
    return found


@pytest.mark.slow
def test_a_study_survives_kills_at_random_moments(tmp_path):
    folders = [tmp_path / name for name in ("calm", "stormy")]
    projects = []
    for folder in folders:
        folder.mkdir()
        projects.append(Project(folder))
        write_people(folder / "data/tiny")
        projects[-1].study("study", STUDY)
    calm, stormy = projects
    calm.snakemake("--configfile", "study.yaml")
    expected = results(calm)

    generator, kills, attempts = random.Random(KILLS), {"training": 0, "controller": 0, "all": 0}, 0
    while sum(kills.values()) < KILLS and attempts < 20 * KILLS:
        attempts += 1
        controller = start(stormy)
        deadline = time.monotonic() + 60
        while not trainings(stormy) and controller.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if controller.poll() is not None:
            break  # all is done
        time.sleep(generator.uniform(0.8, 3.5))  # import torch, then train, save, commit or publish
        victims = trainings(stormy)
        target = list(kills)[sum(kills.values()) % len(kills)]
        if not victims:
            continue
        kills[target] += 1
        kill({"training": victims[:1], "controller": [controller.pid], "all": [*victims, controller.pid]}[target])
        if target == "training":
            controller.wait(300)  # it goes on with the other jobs and ends with the failure
        controller.wait(60)
        stormy.snakemake("--unlock", "--configfile", "study.yaml")

    stormy.snakemake("--configfile", "study.yaml")  # orphans of killed controllers are waited for, by their locks
    found = results(stormy)
    print(f"\nkills {kills}, recovered {len(found)}, lost {len(expected) - len(found)}")
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    for metrics in calm.folder.glob("experiments/*/*/metrics.json"):
        mirrored = stormy / str(metrics.parent.relative_to(calm.folder))
        assert {f.name for f in mirrored.iterdir()} == {f.name for f in metrics.parent.iterdir()}
