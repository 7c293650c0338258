"""What makes trainings fast changes nothing of what they mean."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, job_of, plan, prepared
from tiny import TINY
from torch.nn import functional as F

from rootstock.engine.files import load
from rootstock.engine.progress import Context
from rootstock.job.train import train
from rootstock.study.code import code_digest
from rootstock.study.problems import Refusal
from rootstock.tasks.activity.augment import TAPE, keyed_noise
from rootstock.tasks.activity.data import read_people
from rootstock.tasks.activity.models import CentredNormReLU, build_model
from rootstock.tasks.activity.presets import PRESETS, sources_of
from rootstock.tasks.activity.specs import Model
from rootstock.tasks.activity.train import load_model
from rootstock.tasks.activity.trainee import Measure
from rootstock.tasks.registry import TASKS


def tiny_base(folder: Path, monkeypatch, **base):
    """The base training of activity's tiny study, its data written below `folder`, which becomes the working folder."""
    monkeypatch.chdir(folder)
    TINY["activity"].write(folder / "data/tiny")
    (training,) = prepared(plan(**TINY["activity"].content({"base": base}))).bases.values()
    return training


def test_the_kept_weights_are_not_measured_twice_on_the_same_windows(tmp_path, monkeypatch):
    training, calls, whole = tiny_base(tmp_path, monkeypatch, max_epochs=4), [], Measure.__call__
    monkeypatch.setattr(Measure, "__call__", lambda self, windows: calls.append(windows) or whole(self, windows))
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


def as_written(model, x):
    """The network of the `test` preset as its description says it, one operation after the other."""
    for block in model.network.blocks:
        y = block.conv(x)
        y = F.relu(F.layer_norm(y.transpose(1, 2), y.shape[1:2]).transpose(1, 2))
        if block.residual:
            y = y + (x if block.project is None else block.project(x))
        x = F.max_pool1d(y, 2) if block.pool else y
    return model.network.classifier(model.network.dropout(x).mean(dim=2))


def pooled_as_written(model, x):
    """That of the `pooled` preset."""
    x = model.network.blocks(F.avg_pool1d(x, model.network.downsample))
    return model.network.classifier(model.network.dropout(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)))


SETTINGS = [
    {},
    {"use_dilation": True},
    {"use_residual": True},
    {"use_dilation": True, "use_residual": True},
    {"num_blocks": 5},
]
NETWORKS = [*(("test", as_written, settings) for settings in SETTINGS), ("pooled", pooled_as_written, {"dropout": 0.0})]


@pytest.mark.parametrize("channels", [6, 1])
@pytest.mark.parametrize("samples", [80, 83])
@pytest.mark.parametrize(("preset", "written", "settings"), NETWORKS)
def test_a_fast_network_is_the_one_that_its_description_says(preset, written, settings, samples, channels):
    architecture, defaults = PRESETS[preset]
    model = build_model(Model(architecture=architecture, settings=defaults | settings), channels, 2).double()
    windows = torch.randn(5, channels, samples, dtype=torch.float64, requires_grad=True)
    found = []
    for forward in (model, lambda x: written(model, x)):
        outputs = forward(windows)
        grads = torch.autograd.grad(outputs.square().sum(), [*model.parameters(), windows])
        found.append([outputs, *grads])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-13)


def test_of_equal_time_steps_one_learns():
    """A sensor that stands still: MaxPool2 hands the gradient to one of two equal values."""
    y = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]]], dtype=torch.float64, requires_grad=True)  # (n, t, 2, c)
    CentredNormReLU.apply(y * torch.tensor([1.0, 2.0], dtype=torch.float64)).sum().backward()
    assert ((y.grad != 0).any(3).sum(2) == 1).all()


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_norms_are_taken_in_whole_precision(precision):
    values = torch.randn(3, 4, 2, 8, dtype=precision, requires_grad=True)
    with torch.autocast("cpu", precision):
        norm = CentredNormReLU.apply(values)
    norm.sum().backward()
    assert norm.dtype == torch.float32 and values.grad.dtype == precision


def test_noise_is_white_and_of_its_sample_alone():
    noise = keyed_noise(7, torch.arange(3000), 60, torch.device("cpu"))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    pairs = [
        (noise[:, :-1], noise[:, 1:]),
        (noise[:-1], noise[1:]),
        (noise, keyed_noise(8, torch.arange(3000), 60, noise.device)),
    ]
    for one, other in pairs:
        assert abs((one * other).mean()) < 0.02
    order = torch.randperm(3000)
    assert torch.equal(keyed_noise(7, order, 60, noise.device), noise[order])
    assert keyed_noise(7, torch.arange(2), TAPE, noise.device).std() > 0.9  # longer than the tape


def test_an_object_of_an_earlier_recipe_stays_what_it_is(tmp_path, monkeypatch):
    """It is handed out and fine-tuned as it is, and never becomes one of today's name; none is trained any more."""
    training = tiny_base(tmp_path, monkeypatch, max_epochs=1)
    earlier = replace(job_of(training), spec=training.spec.model_copy(update={"recipe": 1}))
    with pytest.raises(Refusal, match=r"its spec is of recipe 1 of activity, this version trains recipe 2; plan again"):
        train(earlier)
    with monkeypatch.context() as patch:
        patch.setattr(type(earlier.task), "recipe", 1)
        kept = train(earlier)
    assert kept.hash != training.hash and train(earlier) == kept
    today = train(job_of(training))
    assert today.hash == training.hash and "former_name" not in today.read()
    kept.publish_base(tmp_path / "it.pt", tmp_path / "it_metadata.json")
    (tuned,) = plan(**TINY["activity"].content()).experiments.values()
    spec = tuned.spec.model_copy(update={"base": kept.hash, "max_epochs": 1})
    assert (
        train(replace(job_of(tuned), spec=spec, start_model=str(tmp_path / "it.pt"))).read()["base_hash"] == kept.hash
    )


def test_networks_are_known_as_the_code_of_recipe_1():
    """What `same_code` says: models of then load, and so the digests below stay."""
    task = TASKS.find("activity")
    known = {"test": "8105b01905472d60", "pooled": "4bd36a11bfef6e68", "medium": "f0ec3abb8e3f0e74"}
    for preset, code in known.items():
        architecture, settings = PRESETS[preset]
        found = code_digest(sources_of(Model(architecture=architecture, settings=settings)))
        assert task.same_code.get(found, found) == code, (preset, found)
