"""Which device a job gets. No GPU is needed: the leases are files."""

import multiprocessing
import time

import pytest
import torch

from rootstock.engine.device import leased_device, pick_device
from rootstock.study.problems import Refusal


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    missing = str(torch.cuda.device_count())
    for wanted in (missing, f"cuda:{missing}"):
        with pytest.raises(Refusal, match="is not there"):
            pick_device(wanted)


def _lease(folder, queue, seconds):
    with leased_device("auto", folder, count=2) as device:
        queue.put((device.index, time.monotonic()))
        time.sleep(seconds)


def test_jobs_of_one_machine_never_share_a_gpu(tmp_path):
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    jobs = [fork.Process(target=_lease, args=(tmp_path, queue, 0.5)) for _ in range(3)]
    for job in jobs:
        job.start()
    got = sorted((queue.get(timeout=20) for _ in jobs), key=lambda g: g[1])
    for job in jobs:
        job.join()
    assert {got[0][0], got[1][0]} == {0, 1} and got[2][1] - got[0][1] >= 0.45


def test_under_slurm_and_for_a_named_device_nothing_is_leased(tmp_path, monkeypatch):
    with leased_device("cpu", tmp_path / "a", count=2) as device:
        assert device.type == "cpu"
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with leased_device("auto", tmp_path / "a", count=0):
        pass
    assert not (tmp_path / "a").exists()


def test_the_lease_follows_the_visible_number(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with leased_device("auto", tmp_path, count=2), leased_device("auto", tmp_path, count=2) as second:
        assert second.index == 1
        assert sorted(p.name for p in tmp_path.iterdir()) == ["gpu-3.lock", "gpu-5.lock"]
