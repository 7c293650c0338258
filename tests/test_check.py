"""`make check`: all that jobs would refuse, before the first job; and what a run says and refuses when it starts."""

import json
import subprocess

import pytest
import torch
from conftest import PEOPLE, ROOT, jobs_run, plan, prepared, write_people
from test_bad_input import BAD_WINDOWS, ODD_WINDOWS
from tiny import TINY

from rootstock.controller import checking
from rootstock.engine import curves
from rootstock.study.parts import Checked
from rootstock.study.problems import StudyError

STUDY = {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}, "finetune": {"mode": "target_only_fine_tuning"}}
NETS = """
import torch

class Narrow(torch.nn.Module):
    def __init__(self, in_channels, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(in_channels * 31, n_outputs)

    def forward(self, x):
        return self.layer(x.flatten(1))

class Broken(Narrow):
    def __init__(self, in_channels, n_outputs):
        raise RuntimeError("no such layer")
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """People in data/tiny of the working folder, on a machine without a Slurm."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "is_slurm_here", lambda: False)
    return write_people(tmp_path / "data/tiny")


def checked(**study) -> Checked:
    return checking.check_all(plan(**(STUDY | study)))


def test_what_is_in_order_is_shown_by_person_and_part(data):
    windows, y = torch.load(data / "bob_train.pt")
    torch.save((windows, torch.where(y == 1, 0, y)), data / "bob_train.pt")
    found = checked()
    assert not found.faults
    (bob,) = (line.split("  ") for line in found.table if line.startswith("bob"))
    assert [cell.strip() for cell in bob if cell] == ["bob", "24 (16 0 8)", "12 (4 4 4)", "12 (4 4 4)"]


def test_a_class_that_nobody_else_comes_near_is_shown(data):
    assert not any("nobody has" in line for line in checked().table)
    windows, y = torch.load(data / "bob_train.pt")
    y[0] = 99
    torch.save((windows, y), data / "bob_train.pt")
    (line,) = (line for line in checked().table if "nobody has" in line)
    told = "nobody has 96 classes, 3 the first, below class 99, of 1 window in all (bob's train part); is it right?"
    assert line == f"note: data/tiny: {told}"


@pytest.mark.parametrize(("content", "reason"), BAD_WINDOWS + ODD_WINDOWS)
def test_a_file_is_refused_as_its_job_would(data, content, reason):
    path = data / "bob_train.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    lines = checked().faults
    assert any(reason in line for line in lines) and len(lines) == len(set(lines)) <= 2


def test_all_faults_are_told_at_once(data, tmp_path, monkeypatch):
    (tmp_path / "check_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    torch.save((torch.full((4, 3, 32), torch.nan), torch.zeros(4)), data / "bob_val.pt")
    (data / "cleo_test.pt").write_bytes(b"x")
    write_people(data, ("dora", "emil", "finn"))
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    found = checked(
        base={"model": ["check_nets:Narrow", "check_nets:Broken"], "participants": ["dora", "emil"]},
        folds=[0, 1, 2, 5],
        run={"gpus": 999, "tensorboard": True, "sign_with": "no.pem"},
    )
    told = (
        "bob_val.pt: X holds NaN",
        "cleo_test.pt: holds more than tensors and plain values, or is damaged",
        "does not take windows of shape [3, 32]",
    )
    told += ("no such layer", "run.gpus: 999", "run.tensorboard", "run.sign_with")
    assert len(found.faults) == len(told), found.faults
    assert all(any(part in line for line in found.faults) for part in told), found.faults


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        ({"data": {"path": "data/tiny", "window_size": 33}}, "data.window_size: 33 samples"),
        ({"data": {"path": "data/tiny", "n_classes": 2}}, "data.n_classes: 2 is too few, the data has class 2"),
        ({"base": {"pos_weight": 3}}, "base.pos_weight: 3.0 is for binary labels"),
        ({"run": {"device": "cuda:99"}}, "device: cuda:99 is not there"),
    ],
)
def test_settings_that_the_data_contradicts_are_told(data, study, reason):
    lines = checked(**study).faults
    assert lines and all(reason in line for line in lines)


def test_a_class_that_only_the_target_has_is_told(data):
    torch.save((torch.zeros(4, 3, 32), torch.tensor([0, 1, 2, 7])), data / "ann_val.pt")
    lines = checked(folds=[0]).faults
    assert lines == ["data.n_classes: ann's val windows have class 7, the model knows 0 to 2; set data.n_classes"]


def test_a_stage_is_held_to_the_classes_of_the_first(data):
    torch.save((torch.zeros(4, 3, 32), torch.tensor([0, 1, 2, 7])), data / "cleo_val.pt")
    base = {"participants": ["bob", "cleo"], "parent": {"participants": ["bob"]}}
    assert any("base train windows have class 7" in line for line in checked(folds=[0], base=base).faults)


def test_a_network_is_tried_before_built_in_data_is_prepared(data, tmp_path, monkeypatch):
    (tmp_path / "early_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    found = checked(data={"pad": True}, base={"model": "early_nets:Broken"})
    assert len(found.faults) == 1 and "no such layer" in found.faults[0]
    assert any("not prepared yet" in line for line in found.table)


def test_gpus_that_only_slurm_may_have_are_no_fault(data, monkeypatch):
    monkeypatch.setattr(checking, "is_slurm_here", lambda: True)
    found = checked(run={"gpus": 999})
    assert not found.faults and any("on this machine" in line and "run.gpus: 999" in line for line in found.table)


@pytest.mark.parametrize("task", sorted(TINY))
def test_every_task_is_checked_before_and_after_its_data_is_prepared(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "is_slurm_here", lambda: False)
    TINY[task].write(tmp_path / "data/tiny")
    planned = plan(**TINY[task].study)
    before = checking.check_all(planned)
    after = checking.check_all(prepared(planned))
    assert not before.faults and not after.faults
    assert len(planned.artefacts) == sum("not prepared yet" in line for line in before.table)
    assert not any("not prepared yet" in line for line in after.table)


@pytest.mark.parametrize(
    ("task", "file", "content", "reason"),
    [
        ("language_model", "more.jsonl", "[]\n", "more.jsonl:1: is not a JSON object"),
        ("language_model", "more.txt", " \n", "more.txt: holds no text"),
        ("distillation", "pairs.jsonl", '{"query": "x"}\n', "pairs.jsonl:1: positive is missing"),
        ("distillation", "teacher/model.safetensors", "", "cannot be loaded"),
    ],
)
def test_text_and_models_are_opened(tmp_path, monkeypatch, task, file, content, reason):
    monkeypatch.chdir(tmp_path)
    TINY[task].write(tmp_path / "data/tiny")
    (tmp_path / "data/tiny" / file).write_text(content)
    lines = checking.check_all(plan(**TINY[task].content({"domains": None} if task == "language_model" else {}))).faults
    assert len(lines) == 1 and reason in lines[0], lines


def test_the_command_ends_with_ok_or_with_all_faults(project, people):
    project.study("tiny", STUDY)
    done = project.script("generate_jobs", "--check", "--configfile", "tiny.yaml", "--config", "store=elsewhere")
    assert done.stdout.endswith("0 of 6 trainings already in the store\nok\n")
    assert not [name for name in ("elsewhere", "logs", "base_models", "experiments") if (project / name).exists()]
    for part in ("train", "test"):
        torch.save((torch.zeros(4, 3, 32), torch.full((4,), 0.5)), people / f"bob_{part}.pt")
    done = project.script("generate_jobs", "--check", "--configfile", "tiny.yaml", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "ok" not in done.stdout.splitlines()
    assert len(done.stderr.splitlines()) == 2 and done.stderr.count("float labels must be 0 or 1") == 2
    done = project.script("generate_jobs", "--check", "--config", "nonsense", check=False)
    assert done.returncode == 1 and done.stderr.startswith("--config:") and "Traceback" not in done.stderr


def test_make_check_takes_what_make_run_takes():
    for study in ("config/config.yaml", "jobs.json"):
        flags = [f"STUDY={study}", "CONFIG=store=x train_bases=false"]
        shown = subprocess.run(["make", "-n", "check", *flags], cwd=ROOT, capture_output=True, text=True)
        assert f"--configfile '{study}' --check --config store=x train_bases=false" in shown.stdout, shown.stderr


def test_make_alone_says_what_there_is_and_starts_nothing():
    shown = subprocess.run(["make", "-n"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "snakemake" not in shown.stdout
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f"make {target}" in said for target in ("run", "check", "test", "docs")) and said.count("\n") == 1


@pytest.mark.parametrize(
    "goals", [("check", "my.yaml"), ("run", "config/config.yaml"), ("my.json", "run"), ("run", "my")]
)
def test_a_study_without_its_word_is_one_line_and_not_the_default_study(goals):
    done = subprocess.run(["make", "-n", *goals], cwd=ROOT, capture_output=True, text=True)
    target = next(goal for goal in goals if goal in ("check", "run"))
    study = next(goal for goal in goals if goal != target)
    assert done.returncode == 2 and not done.stdout and len(done.stderr.splitlines()) == 1
    assert f"make {target} STUDY={study}" in done.stderr


def test_a_run_says_how_much_the_store_hands_back_and_refuses_what_no_job_could_have(project, people):
    study = STUDY | {"participants": list(PEOPLE), "folds": [0]}
    project.publish_here(study)
    greedy = study | {"folds": [0, 1], "run": {"gpus": 999}}
    project.study("tiny", greedy)
    dry = project.snakemake("-n", "--configfile", "tiny.yaml")
    assert "2 of 4 trainings already in the store" in dry.stderr and "tiny: 2 experiments" in dry.stderr
    done = project.snakemake("--configfile", "tiny.yaml", check=False)
    assert done.returncode == 1 and "run.gpus: 999 asked for" in done.stderr and "Traceback" not in done.stderr
    assert "2 of 4 trainings already in the store" in done.stderr and not (project / "logs").exists()
    project.study("tiny", greedy | {"folds": [0]})  # all is there: no GPU is needed
    done = project.snakemake("--configfile", "tiny.yaml")
    assert set(jobs_run(done.stderr)) <= {"train_base", "train_finetune", "summarise", "report"}
    assert json.loads((project / "results/tiny/run_log.json").read_text())


def test_packages_of_another_environment_are_not_looked_for(data, monkeypatch):
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    planned = plan(**STUDY, run={"tensorboard": True})
    checking.require_what_runs_need(planned, is_local=True, is_this_python=False)
    with pytest.raises(StudyError, match=r"run\.tensorboard"):
        checking.require_what_runs_need(planned, is_local=True, is_this_python=True)


def test_windows_in_the_older_form_of_torch_files_are_read_too(data):
    for file in data.iterdir():
        torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
    assert not checked().faults
