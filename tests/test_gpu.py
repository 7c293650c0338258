"""What is tested on CPUs holds on a GPU: `pytest -m gpu` runs these alone, on a machine that has one."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import WARM_ROOT, end_warm, job_of, plan, prepared, warm_processes
from test_engine import close, flags_of, history, obtain, prepared_tiny, start, wait_for_line
from tiny import PEOPLE, TINY, write_people

from rootstock import load_model
from rootstock.engine.rows import Rows
from rootstock.job.train import train
from rootstock.study.problems import Refusal
from rootstock.study.run import Run
from rootstock.tasks.activity.data import read_people

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")]
GPU = torch.device("cuda", 0)
KINDS = [(task, "float32") for task in sorted(TINY)]
KINDS += [(task, half) for task in ("activity", "distillation", "language_model") for half in ("bf16", "fp16")]


def needs_of(task: str) -> None:
    """Skip where a task's own packages are not installed."""
    for package in {"distillation": ("transformers",), "language_model": ("tokenizers",)}.get(task, ()):
        pytest.importorskip(package)


@pytest.mark.parametrize(("task", "precision"), KINDS)
def test_on_a_gpu_too_a_killed_training_ends_as_an_undisturbed_one(task, precision, tmp_path, monkeypatch):
    """Bit for bit, and so does the same training again; its model holds tensors of CPUs and loads without a GPU."""
    needs_of(task)
    monkeypatch.chdir(tmp_path)
    study = prepared_tiny(tmp_path, task, {"base": {"precision": precision}})
    for training in (*study.bases.values(), *study.experiments.values()):
        straight, _ = obtain(tmp_path, "undisturbed", training, monkeypatch, device="cuda")
        again, _ = obtain(tmp_path, "again", training, monkeypatch, device="cuda")
        resumed, _ = obtain(tmp_path, "killed", training, monkeypatch, (3, 7), device="cuda")
        assert straight.model.read_bytes() == again.model.read_bytes() == resumed.model.read_bytes()
        assert straight.read()["run"]["device_used"].startswith("cuda")
        weights = torch.load(straight.model, weights_only=True)["model"].values()
        assert {tensor.device.type for tensor in weights} == {"cpu"}
        model = load_model(straight.model)
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("task", sorted(TINY))
def test_on_one_gpu_two_processes_learn_as_one_and_change_places(task, project, monkeypatch):
    needs_of(task)
    flags = (*flags_of(project, task, monkeypatch), "--device", "cuda")
    two = ("--gpus", "1", "--processes", "2")
    project.here("train_base", *flags, "--store", "one")
    project.script("train_base", *flags, "--store", "two", *two)
    close(history(project, "one"), history(project, "two"))
    process = start(project, *flags, "--store", "changed", *two)
    wait_for_line(project, process, "(epoch|evaluation) 2/")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = project.script("train_base", *flags, "--store", "changed")
    assert "resumed from a checkpoint" in done.stdout
    close(history(project, "one"), history(project, "changed"))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees fewer than two GPUs")
@pytest.mark.parametrize("task", sorted(TINY))
def test_two_gpus_learn_as_one(task, project, monkeypatch):
    needs_of(task)
    flags = (*flags_of(project, task, monkeypatch), "--device", "cuda")
    project.here("train_base", *flags, "--store", "one")
    project.script("train_base", *flags, "--store", "two", "--gpus", "2")
    close(history(project, "one"), history(project, "two"))


def test_a_job_of_the_warm_process_learns_the_same_on_a_gpu(project, monkeypatch, tmp_path):
    """No CUDA may be touched before the fork."""
    root = tmp_path / "warm"
    monkeypatch.setenv(WARM_ROOT, str(root))
    flags = (*flags_of(project, "activity", monkeypatch), "--device", "cuda")
    project.here("train_base", *flags, "--store", "cold")
    project.script("train_base", *flags, "--store", "warm")
    (cold,), (warm,) = project.folder.glob("cold/*/model.pt"), project.folder.glob("warm/*/model.pt")
    assert cold.read_bytes() == warm.read_bytes()
    (server,) = warm_processes(root, "python")  # it forked, for it has nothing that keeps it from that
    opened = [os.readlink(one) for one in Path(f"/proc/{server}/fd").iterdir()]
    assert len(os.listdir(f"/proc/{server}/task")) == 1 and not any("nvidia" in name for name in opened)
    end_warm(root)


@pytest.fixture
def windows(tmp_path):
    """Windows of three mapped files."""
    return read_people(write_people(tmp_path / "windows"), PEOPLE, ("train",)).x


@pytest.mark.parametrize("has_room", [True, False])
def test_rows_are_the_same_on_the_gpu_and_staged(windows, has_room, monkeypatch):
    if not has_room:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, 1))
    rows, index = windows.to(GPU), torch.tensor([70, 0, 24, 3])
    assert {part.device.type for part in rows.parts} == {"cuda" if has_room else "cpu"}
    for found, wanted in (
        (rows.take(index), windows.take(index)),
        (rows.between(20, 60), windows.between(20, 60)),
        (rows.all(), windows.all()),
    ):
        assert found.device == GPU and torch.equal(found.cpu(), wanted)


def test_staged_windows_give_the_weights_of_those_on_the_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, "activity").bases.values()
    lying = train(job_of(base, "lying", Run(device="cuda")))
    monkeypatch.setattr(Rows, "to", lambda self, device, share=1.0: Rows(self.parts, device))
    staged = train(job_of(base, "staged", Run(device="cuda")))
    assert lying.model.read_bytes() == staged.model.read_bytes()


def test_all_augmentation_gives_the_same_bits_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {
        "aug_prob": 0.8,
        "jitter_std": 0.1,
        "magnitude_range": [[0.8, 1.2]],
        "time_warp": 0.2,
        "rotation_std": 0.2,
    }
    (base,) = prepared_tiny(tmp_path, "activity", {"base": changes}).bases.values()
    one, other = (train(job_of(base, store, Run(device="cuda"))) for store in ("one", "other"))
    assert one.model.read_bytes() == other.model.read_bytes()


def test_a_compiled_training_resumes_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, "activity").bases.values()
    straight, _ = obtain(tmp_path, "undisturbed", base, monkeypatch, device="cuda", compile=True)
    resumed, _ = obtain(tmp_path, "killed", base, monkeypatch, (5,), device="cuda", compile=True)
    assert straight.read()["run"]["compile"] is True
    close(
        straight.read()["history"], resumed.read()["history"]
    )  # what shapes it is compiled for depends on where it begins


def test_a_network_with_batch_norm_splits_over_one_gpu(project, people, monkeypatch):
    flags = ("--fold", "0", "--data_path", "data/tiny", "--model", "medium", "--max_epochs", "2", "--batch_size", "8")
    flags += ("--device", "cuda", "--dropout", "0")
    project.here("train_base", *flags, "--store", "one")
    project.script("train_base", *flags, "--store", "two", "--gpus", "1", "--processes", "2")
    close(history(project, "one"), history(project, "two"))


def test_a_gpu_that_is_too_small_is_one_line_that_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data", samples=4096, n=96)
    planned = prepared(plan(data={"path": "data"}, folds=[0], base={"max_epochs": 1, "batch_size": 96}, finetune={}))
    (base,) = planned.bases.values()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_per_process_memory_fraction(4e6 / torch.cuda.get_device_properties(GPU).total_memory)
    try:
        with pytest.raises(Refusal, match=r"run.trainings_per_gpu: 2 do not fit into the .* set 1, or"):
            train(job_of(base, run=Run(device="cuda", trainings_per_gpu=2)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
