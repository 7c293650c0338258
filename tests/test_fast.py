"""What makes trainings fast changes nothing of what they mean."""

import subprocess
import sys
from pathlib import Path

import torch
from conftest import ROOT, job_of, plan, prepared
from tiny import TINY

from rootstock.engine.files import load
from rootstock.engine.progress import Context
from rootstock.job.train import train
from rootstock.tasks.activity.data import read_people
from rootstock.tasks.activity.train import load_model
from rootstock.tasks.activity.trainee import Measure


def tiny_base(folder: Path, monkeypatch, **base):
    """The base training of activity's tiny study, its data written below `folder`, which becomes the working folder."""
    monkeypatch.chdir(folder)
    TINY["activity"].write(folder / "data/tiny")
    (training,) = prepared(plan(**TINY["activity"].content({"base": base}))).bases.values()
    return training


def test_the_kept_weights_are_not_measured_twice_on_the_same_windows(tmp_path, monkeypatch):
    training, calls, whole = tiny_base(tmp_path, monkeypatch, max_epochs=4), [], Measure.__call__
    monkeypatch.setattr(Measure, "__call__", lambda self, windows: calls.append(len(windows)) or whole(self, windows))
    kept = train(job_of(training))
    assert len(calls) == 4
    content = load(kept.model)
    again = Measure(load_model(content, "it"), content["n_classes"], Context(torch.device("cpu")), None)
    assert kept.read()["metrics"]["base_test"] == again(read_people("data/tiny", training.spec.participants, ("test",)))


def test_freed_memory_is_used_again():
    """Without it each tensor of some megabytes is faulted in anew, 1,024 faults each."""
    code = """
import resource, sys, torch
from rootstock.machine.memory import keep_freed_memory
keep_freed_memory()
for n in range(60):
    if n == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.zeros(2**20) for _ in range(10)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {"PYTHONPATH": str(ROOT / "workflow/scripts"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000  # of 512,000
