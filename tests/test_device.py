"""Which GPUs a job sees and which device it computes on. No GPU is needed: they are names, and leases are files."""

import multiprocessing
import os
import time

import pytest
import torch

from rootstock.engine.device import pick_device
from rootstock.job.gpus import VISIBLE, granted_gpus
from rootstock.study.problems import Refusal


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", VISIBLE):
        monkeypatch.delenv(name, raising=False)


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    missing = str(torch.cuda.device_count())
    for wanted in (missing, f"cuda:{missing}"):
        with pytest.raises(Refusal, match="is not there"):
            pick_device(wanted)


def _lease(folder, queue, count, seconds):
    with granted_gpus(count, "auto", lambda _: None, folder) as gpus:
        queue.put((set(gpus), time.monotonic()))
        time.sleep(seconds)


@pytest.mark.parametrize("asked", [[1, 1, 1, 1], [2, 2, 1, 1]])
def test_jobs_of_one_machine_never_share_a_gpu(tmp_path, monkeypatch, asked):
    """More are asked for than there are, and jobs of two GPUs do not wait for each other's second one for ever."""
    monkeypatch.setenv(VISIBLE, "3,5,GPU-7")
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    jobs = [fork.Process(target=_lease, args=(tmp_path, queue, count, 0.6)) for count in asked]
    for job in jobs:
        job.start()
    got = [queue.get(timeout=30) for _ in jobs]
    for job in jobs:
        job.join()
    for number, (gpus, since) in enumerate(got):
        assert gpus and gpus <= {"3", "5", "GPU-7"}
        beside = [other for other, when in got[number + 1 :] if when - since < 0.5]
        assert not any(gpus & other for other in beside)


def test_none_asked_none_seen_and_all_is_as_before_at_the_end(monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, "0,1")
    with granted_gpus(0, "auto", print, tmp_path) as gpus:
        assert gpus == [] and os.environ[VISIBLE] == ""
    assert os.environ[VISIBLE] == "0,1"
    with granted_gpus(None, "cuda:1", print, tmp_path):
        assert os.environ[VISIBLE] == "0,1"  # a named device is the user's business
    with (
        pytest.raises(Refusal, match=r"run.gpus: 3 asked for, this machine shows 2; give fewer"),
        granted_gpus(3, "auto", print, tmp_path),
    ):
        pass


def test_slurms_choice_is_taken_and_the_login_shells_is_not(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv(VISIBLE, "6")
    with granted_gpus(None, "auto", print, tmp_path / "a"):
        assert os.environ[VISIBLE] == ""
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,3")
    monkeypatch.setenv(VISIBLE, "2,3")
    with granted_gpus(2, "auto", print, tmp_path / "a") as gpus:
        assert gpus == ["2", "3"]
    assert not (tmp_path / "a").exists()
