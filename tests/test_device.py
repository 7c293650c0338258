"""Which GPUs a job sees and which device it computes on. No GPU is needed: they are names, and leases are files."""

import multiprocessing
import os
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from conftest import job_of, plan
from tiny import write_people

from rootstock.engine import distributed
from rootstock.engine.device import pick_device, processes_on_a_gpu
from rootstock.job import gpu_memory, train
from rootstock.job.gpus import VISIBLE, granted_gpus
from rootstock.study.problems import Refusal
from rootstock.study.run import Run
from rootstock.warm.client import IN_SLURM


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


@pytest.fixture
def begun(monkeypatch, tmp_path):
    """Begin a job of one machine with the GPUs 0 and 1, or another's: the GPUs it gets, None where it waits."""

    class Waits(Exception):
        pass

    def sleep(_):
        raise Waits

    def begin(count, sharers, machine="0,1"):
        monkeypatch.setenv(VISIBLE, machine)
        heard = []
        try:
            return jobs.enter_context(granted_gpus(count, "auto", heard.append, tmp_path, sharers))
        except Waits:
            assert len(heard) == 1 and f"waiting for {count} free GPU(s)" in heard[0]

    monkeypatch.setattr(time, "sleep", sleep)
    with ExitStack() as jobs:
        yield begin


def test_trainings_share_gpus_as_many_as_agreed_on_and_take_the_emptiest(begun):
    assert [begun(1, 3) for _ in range(4)] == [["0"], ["1"], ["0"], ["1"]]
    assert begun(2, 3) == ["0", "1"]
    assert begun(1, 3) is None


def test_who_shares_with_few_is_left_with_few(begun):
    """A study that shares a GPU with one training, beside studies that share theirs with none or with many."""
    assert begun(1, 2, "0") == ["0"]
    assert begun(1, 1, "0") is None
    assert begun(1, 8, "0") == ["0"]
    assert begun(1, 8, "0") is None and begun(1, 2, "0") is None
    assert begun(1, 1, "1") == ["1"]
    assert begun(1, 8, "1") is None


def test_a_job_takes_a_gpu_as_its_study_shares_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VISIBLE, "0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    seen = []
    monkeypatch.setattr(
        train, "_train_and_commit", lambda *_: seen.extend(p.name for p in tmp_path.glob("rootstock-gpus-*/gpu-*"))
    )
    write_people(tmp_path / "data")
    (base,) = plan(data={"path": "data"}, folds=[0], finetune={}).bases.values()
    train.train(job_of(base, run=Run(trainings_per_gpu=4)))
    assert seen == ["gpu-0.4.0.lock"]
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert gpu_memory.trainings_on_a_gpu(Run(trainings_per_gpu=4)) == 1
    monkeypatch.setenv(IN_SLURM, "1")  # one of several fine-tunes in a job
    assert gpu_memory.trainings_on_a_gpu(Run(trainings_per_gpu=4)) == 4


@pytest.fixture
def two_gpus(monkeypatch):
    """torch as on a machine with two GPUs of 80 GiB, as far as it is asked here."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 23 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_each_process_takes_the_gpu_of_its_rank(two_gpus, monkeypatch, wanted):
    assert pick_device(wanted) == torch.device("cuda", 0)
    for rank in range(4):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert pick_device(wanted) == torch.device("cuda", rank % 2)


@pytest.mark.parametrize(
    ("wanted", "processes", "on_a_gpu", "backend"),
    [("auto", 2, 1, "cpu:gloo,cuda:nccl"), ("cuda", 3, 2, "gloo"), ("cuda:1", 2, 2, "gloo"), ("cpu", 2, 2, "gloo")],
)
def test_processes_on_one_gpu_meet_without_nccl(two_gpus, monkeypatch, wanted, processes, on_a_gpu, backend):
    """NCCL refuses two of its processes on one GPU."""
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": processes}.items():
        monkeypatch.setenv(name, str(value))
    asked = []
    monkeypatch.setattr(distributed, "die_with_parent", lambda: None)
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda backend, timeout: asked.append(backend))
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: processes)
    assert processes_on_a_gpu(wanted) == on_a_gpu
    distributed.world_of_environment(pick_device(wanted), 1, processes_on_a_gpu(wanted))
    assert asked == [backend]


OUT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 80.00 GiB of which 1.00 GiB is free."
)


@pytest.mark.parametrize(
    ("run", "error", "told"),
    [
        (
            {"trainings_per_gpu": 8},
            torch.cuda.OutOfMemoryError(OUT),
            "run.trainings_per_gpu: 8 do not fit into the 80.0 GiB of cuda:0: this training needs 25.6 GiB or more; set 3, or",
        ),
        ({"trainings_per_gpu": 3}, RuntimeError("CUDA error: out of memory\nMore."), "23.6 GiB or more; set 2, or"),
        (
            {"micro_batch_size": 64},
            torch.cuda.OutOfMemoryError(OUT),
            "run.micro_batch_size: 64 samples at a time do not fit into the memory of cuda:0; set a smaller one",
        ),
        ({}, RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "run.micro_batch_size: all samples"),
    ],
)
def test_a_training_that_does_not_fit_says_what_to_set(two_gpus, run, error, told):
    with pytest.raises(Refusal) as refusal, gpu_memory.refused_if_too_large(Run(**run), torch.device("cuda", 0)):
        raise error
    assert told in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_training_that_fails_otherwise_is_not_told_as_too_large(two_gpus):
    with (
        pytest.raises(RuntimeError, match="device-side assert"),
        gpu_memory.refused_if_too_large(Run(trainings_per_gpu=2), torch.device("cuda", 0)),
    ):
        raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize("where", [{}, {"SLURM_JOB_ID": "1", IN_SLURM: "1"}], ids=["here", "one of several in a job"])
def test_a_job_that_runs_out_of_memory_ends_with_one_line(two_gpus, monkeypatch, tmp_path, where):
    for name, value in where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data")
    (base,) = plan(data={"path": "data"}, folds=[0], finetune={}).bases.values()

    def fails(*_):
        raise torch.cuda.OutOfMemoryError(OUT)

    monkeypatch.setattr(train, "_outcome", fails)
    with pytest.raises(Refusal, match=r"run.trainings_per_gpu: 4 do not fit into .* set 3"):
        train.train(job_of(base, run=Run(trainings_per_gpu=4, device="cpu")))
    assert not list(tmp_path.glob("store/*/metadata.json"))
