"""Rows of many files are those of one tensor that is never made."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, job_of, plan
from hypothesis import given
from hypothesis import strategies as st
from tiny import PEOPLE, write_people
from torch import Tensor

from rootstock.engine.rows import PIECE, Rows
from rootstock.job.train import train
from rootstock.study.problems import Refusal
from rootstock.study.run import Run
from rootstock.tasks.activity.data import read_people, read_windows
from rootstock.tasks.activity.trainee import WindowTrainee


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.data())
def test_rows_of_parts_are_those_of_the_whole(sizes, data):
    parts = [torch.randn(n, 2, 5) for n in sizes]
    rows, whole = Rows(parts), torch.cat(parts)
    assert rows.shape == whole.shape and len(rows) == len(whole)
    assert torch.equal(rows.all(), whole) and torch.equal(torch.cat(list(rows.pieces())), whole)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12)), dtype=torch.int64)
    assert torch.equal(rows.take(index), whole[index])
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.integers(first, len(whole) + 2))
    assert torch.equal(rows.between(first, last), whole[first:last])


def test_what_is_taken_may_be_changed():
    for parts in ([torch.zeros(4, 1, 2)], [torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)]):
        Rows(parts).take(torch.tensor([0, 3])).add_(1)
        assert not torch.cat(parts).any()


@pytest.fixture
def gpu(monkeypatch):
    """torch as on a machine with a GPU, whose memory is this one's: a device whose tensors lie on the CPU, and how much is free."""
    device, free, empty, moved = torch.device("cuda", 0), [0], torch.empty, Tensor.to
    pinned: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free[0], 2**40))
    monkeypatch.setattr(torch, "empty", lambda *shape, device, dtype: empty(*shape, dtype=dtype))
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self.clone())
    monkeypatch.setattr(Tensor, "to", lambda self, to, **how: self if to == device else moved(self, to, **how))
    return device, free, pinned


@pytest.mark.parametrize(("sharers", "fits"), [(1, True), (2, True), (3, False)])
def test_rows_go_to_a_gpu_once_where_its_share_has_room_and_else_are_staged(gpu, sharers, fits):
    device, free, pinned = gpu
    parts = [torch.randn(n, 2, 5) for n in (3, 4)]
    whole = torch.cat(parts)
    free[0] = 4 * whole.numel() * 4  # half of it is for rows, and room for two of these
    rows, index = Rows(parts).to(device, 1 / sharers), torch.tensor([6, 0, 3])
    assert len(rows.parts) == (1 if fits else 2)
    assert torch.equal(rows.take(index), whole[index]) and torch.equal(rows.between(2, 5), whole[2:5])
    assert pinned == ([] if fits else [3, 3])


def test_rows_are_staged_where_another_process_took_the_room_meanwhile(gpu, monkeypatch):
    device, free, pinned = gpu
    free[0] = 2**30

    def taken(*_, **how):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", taken)
    parts = [torch.zeros(3, 1, 2), torch.ones(4, 1, 2)]
    rows = Rows(parts).to(device)
    assert len(rows) == 7 and rows.take(torch.tensor([3, 0])).flatten().tolist() == [1, 1, 0, 0] and pinned == [2]


def test_windows_that_choose_the_epoch_go_where_those_go_that_are_trained_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "d")
    (base,) = plan(data={"path": "d"}, folds=[0], base={"max_epochs": 1}, finetune={}).bases.values()
    sent: list[tuple[int, float]] = []
    monkeypatch.setattr(Rows, "to", lambda self, device, share: sent.append((len(self), share)) or self)
    train(job_of(base, run=Run(trainings_per_gpu=2)))
    assert sent == [(2 * (24 + 12), 0.5), (2 * 12, 0.5)]


def test_statistics_are_those_of_all_rows_however_far_from_zero():
    torch.manual_seed(0)
    parts = [1000 + torch.randn(n, 3, 700, dtype=torch.float64).mul(0.01).float() for n in (300, 1, 400)]
    assert sum(part.numel() for part in parts) > PIECE
    whole, alike = torch.cat(parts).double(), Rows(parts).two_alike()
    assert torch.allclose(alike.mean((0, 2)), whole.mean((0, 2)), rtol=1e-12)
    assert torch.allclose(alike.std((0, 2), correction=0), whole.std((0, 2), correction=0), rtol=1e-5)


def test_files_are_mapped_and_joining_copies_nothing(tmp_path):
    """40 MB of windows in a process that then owns a few of them: what is read stays the system's, for all processes."""
    for person in PEOPLE:
        torch.save((torch.randn(140, 6, 4000), torch.arange(140) % 3), tmp_path / f"{person}_train.pt")
    code = """
import re, sys
from rootstock.tasks.activity.data import read_people
def own():
    return int(re.search(r"^Anonymous: +([0-9]+) kB", open("/proc/self/smaps_rollup").read(), re.M)[1])
before = own()
windows = read_people(sys.argv[1], ("ann", "bob", "cleo"), ("train",))
windows.x.two_alike()
print(own() - before)
"""
    environment = {"PYTHONPATH": str(ROOT / "workflow/scripts"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000


@pytest.mark.parametrize("why", ["is in torch's old form", "lies where no file can be mapped"])
def test_a_file_that_cannot_be_mapped_is_read_with_a_note(tmp_path, why, monkeypatch):
    write_people(tmp_path)
    content, heard, whole = torch.load(tmp_path / "bob_train.pt", weights_only=True), [], torch.load
    if "form" in why:
        torch.save(content, tmp_path / "bob_train.pt", _use_new_zipfile_serialization=False)
    else:
        monkeypatch.setattr(
            torch, "load", lambda path, mmap, **how: whole(path, **how) if not mmap else no_mapping(path)
        )
    windows = read_people(tmp_path, ("bob",), ("train",), heard.append)
    assert torch.equal(windows.x.all(), content[0])
    (line,) = heard
    assert f"bob_train.pt: {why}" in line


def no_mapping(path):
    raise RuntimeError(f"unable to mmap 12 bytes from file <{path}>: No such device (19)")


def test_a_file_that_is_written_while_it_is_trained_on_is_told(tmp_path, monkeypatch):
    """It is read until the end: the weights would not be those of the data that they are named by."""
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "d")
    (base,) = plan(data={"path": "d"}, folds=[0], base={"max_epochs": 2}, finetune={}).bases.values()
    whole, file = WindowTrainee.evaluate, tmp_path / "d/cleo_val.pt"
    monkeypatch.setattr(WindowTrainee, "evaluate", lambda self: os.utime(file, ns=(1, 1)) or whole(self))
    with pytest.raises(Refusal, match=r"cleo_val\.pt: changed while it was read"):
        train(job_of(base))
    assert not list(tmp_path.glob("store/*/metadata.json"))


def test_a_value_that_is_no_number_is_found_in_any_piece(tmp_path):
    for value in (float("nan"), float("inf"), -float("inf")):
        x = torch.zeros(3000, 1, 400)
        x[2950, 0, 399] = value
        torch.save((x, torch.arange(3000) % 2), tmp_path / "ann_train.pt")
        with pytest.raises(Refusal, match="X holds NaN or infinite values"):
            read_windows(tmp_path, "ann", "train")
