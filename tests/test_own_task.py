"""A task that the library does not know, in a folder of its user: everything works, and what it lacks is told at once."""

import json
import shutil
import subprocess

import pandas
import pytest
import torch
from conftest import ROOT, jobs_run, plan
from tiny import OWN

from rootstock import load_model
from rootstock.study.contract import faults_of
from rootstock.study.problems import StudyError
from rootstock.study.task import Task
from rootstock.tasks.registry import TASKS

TASK = "curves.task:Curves"
STUDY = {"task": TASK, "base": {"max_epochs": [2, 4], "lr": 0.01, "batch_size": 8}, "finetune": {"max_epochs": 3}}


@pytest.fixture
def own(project):
    shutil.copytree(OWN / "curves", project / "curves")
    return project


@pytest.mark.workflow
def test_a_study_of_it_runs_and_a_second_run_does_nothing(own, monkeypatch):
    finetune = [{"max_epochs": 3, "share": [0.5, 1.0]}, {"mode": "base_only"}]
    study = own.study("curves_study", STUDY | {"finetune": finetune})
    run = own.snakemake("--configfile", study)
    done = jobs_run(run.stderr + run.stdout)
    assert (done["prepare"], done["train_base"], done["train_finetune"]) == (1, 6, 18)
    summary = pandas.read_csv(own / "results/curves_study/summary.csv")
    trained = summary[summary["mode"] == "all_layers"]
    assert len(trained) == 12 and (trained["loss_after"] < trained["loss_before"]).all()
    assert "Nothing to be done" in own.snakemake("--configfile", study).stderr
    listed = own.script("list_checkpoints").stdout
    assert TASK in listed and "all_layers" not in listed  # a file names it, nobody else: it is not imported
    assert "all_layers" in own.script("list_checkpoints", "--task", TASK).stdout
    folder = own / trained["path"].iloc[0]
    untold = own.script("check_checkpoint", folder / "best_model.pt", check=False)
    assert untold.returncode == 1 and "name it by --task" in untold.stderr
    assert "loads; its sha256" in own.script("check_checkpoint", folder / "best_model.pt", "--task", TASK).stdout
    monkeypatch.chdir(own.folder)
    assert load_model(folder, task=TASK)(torch.zeros(3, 1)).shape == (3, 1)


@pytest.mark.workflow
def test_the_first_steps_of_its_page_work_when_pasted(project):
    (project / "tests").symlink_to(ROOT / "tests")
    page = (ROOT / "docs/own_task.md").read_text()
    steps = page.split("## First steps")[1].split("```sh\n")[1].split("```")[0]
    pasted, *made = steps.split("make ")
    assert made == ["check STUDY=my_study.yaml\n", "run STUDY=my_study.yaml\n"]
    subprocess.run(["bash", "-e", "-c", pasted], cwd=project.folder, check=True)
    assert project.script("generate_jobs", "--check", "--configfile", "my_study.yaml").stdout.endswith("ok\n")
    run = project.snakemake("--configfile", "my_study.yaml")
    assert "my_study: 6 experiments on 3 base models" in run.stderr and "loss_after" in run.stdout


def test_it_is_trained_by_hand_and_resumed_by_its_own_budget(own):
    flags = ("--task", TASK, "--place", "south", "--max_epochs", "2", "--lr", "0.01", "--batch_size", "8")
    base = own.script("train_base", *flags).stdout.split()[-1]
    shorter = own.script("resume_training", "--task", TASK, "--max-epochs", "1", check=False)
    assert shorter.returncode == 1 and "--max-epochs: 1 is not beyond 2, where" in shorter.stderr
    said = own.script("resume_training", "--task", TASK, "--max-epochs", "4").stdout
    assert "is what a straight run of 4 epochs gives" in said
    longer = own.script("train_base", *flags[:5], "4", *flags[6:], "--store", "other").stdout.split()[-1]
    assert longer == said.split()[-1] != base
    models = [own / f"{store}/{longer}/model.pt" for store in (".rootstock/store", "other")]
    assert models[0].read_bytes() == models[1].read_bytes()
    wrong = own.script("resume_training", "--task", TASK, "--max-steps", "9", check=False)
    assert wrong.returncode == 1 and "has no such setting; give --max-epochs" in wrong.stderr


def test_a_task_without_a_budget_says_so(own):
    file = own / "curves/task.py"
    file.write_text(file.read_text().replace("def budget(", "def other_budget("))
    own.script("train_base", "--task", TASK, "--place", "south", "--max_epochs", "2", "--batch_size", "8")
    done = own.script("resume_training", "--task", TASK, "--max-epochs", "4", check=False)
    assert done.returncode == 1 and f"--max-epochs: 4: task {TASK} has no budget that could be another" in done.stderr


BROKEN = [
    ("    def location(", "    def place_of(", "lacks the method location(data)"),
    ('    unit_word = "place"', "    unit_word = 3", "has unit_word: 3, which is no str"),
    ("    def budget(self, spec):", "    def budget(self):", "has budget(), which takes (spec)"),
    ("class Curves(task.Task[", "class Curves(list[", "is not a subclass of rootstock.study.task.Task"),
]


@pytest.mark.parametrize(("old", "new", "line"), BROKEN)
def test_what_it_lacks_is_one_line_when_a_study_is_planned(own, old, new, line):
    file = own / "curves/task.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    refused(own, line)


def test_a_section_of_the_wrong_kind_is_told(own):
    file = own / "curves/task.py"
    file.write_text(
        file.read_text().replace(
            "finetune_section = Scope, Data, Base, Finetune",
            "finetune_section = Scope, Data, dict, Finetune",
        )
    )
    refused(own, "has base_section: <class 'dict'>, which is not a subclass of rootstock.study.fields.Section")


def test_what_its_heavy_modules_lack_is_told_without_loading_them(own):
    file = own / "curves/train.py"
    file.write_text(
        "raise SystemExit\n"
        + file.read_text().replace("def measure_base(spec, inputs, context)", "def measure_base(spec)")
    )
    refused(own, "has measure_base with 1 arguments in train.py, which takes (spec, inputs, context)")
    file.write_text(file.read_text().replace("def load_model(", "def read_model("))
    refused(own, "lacks the function load_model(content, where) in train.py")
    report = own / "curves/report.py"
    report.write_text(report.read_text() + "\n\ndef question():\n    return None\n")
    refused(own, "has question with 0 arguments in report.py, which takes (summary)")
    (own / "curves/report.py").unlink()
    refused(own, "lacks the module report.py")


FAILS = [
    ("    def base_spec(self, request, parent, fingerprints, problems):", "base_spec"),
    ("    def budget(self, spec):", "budget"),
    ("    def settings(self, request, base, finetune):", "settings"),
]


@pytest.mark.parametrize(("method", "name"), FAILS)
def test_an_error_of_a_method_while_planning_is_one_line_that_names_the_task(own, method, name):
    file = own / "curves/task.py"
    file.write_text(file.read_text().replace(method, f"{method}\n        None.nothing"))
    study = own.study("broken", STUDY)
    line = f"this is a bug, of curves.task:Curves, in {name}: see .rootstock/last_error.txt"
    for run, first in ((own.snakemake, "-n"), (own.script, "generate_jobs")):
        done = run(first, "--configfile", study, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert [told for told in done.stderr.splitlines() if "AttributeError" in told and told.endswith(line)]
        details = own / ".rootstock/last_error.txt"
        assert f"in {name}" in details.read_text() and "None.nothing" in details.read_text()
        details.unlink()


def test_an_error_after_planning_is_one_line_too(own):
    """`cost` is asked for the headline of a run."""
    file = own / "curves/task.py"
    file.write_text(file.read_text() + "\n    def cost(self, base):\n        raise LookupError('x')\n")
    done = own.snakemake("-n", "--configfile", own.study("broken", STUDY), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "LookupError: x; this is a bug, of curves.task:Curves, in cost" in done.stderr


def refused(project, line: str) -> None:
    study = project.study("broken", STUDY)
    done = project.script("generate_jobs", "--configfile", study, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert f'task: "{TASK}" {line}' in done.stderr


@pytest.mark.parametrize("name", ["nowhere.task:Gone", "chess", 7, "os:path", "curves.task:Missing", "../x:Y"])
def test_a_task_that_is_not_there_is_one_line(own, name, monkeypatch):
    monkeypatch.chdir(own.folder)
    with pytest.raises(StudyError, match="task: "):
        plan(task=name)


@pytest.mark.parametrize("name", TASKS.names)
def test_the_built_in_tasks_keep_the_contract(name):
    assert faults_of(type(TASKS.find(name))) == []


def test_every_method_of_the_contract_says_what_it_is_for():
    missing = [
        name
        for name, member in vars(Task).items()
        if callable(member) and not name.startswith("_") and not member.__doc__
    ]
    assert not missing


@pytest.mark.parametrize("script", ["list_checkpoints", "check_checkpoint", "resume_training"])
def test_a_module_that_only_a_file_names_is_never_imported(project, script):
    """Whoever can write into a store, or send a file, could run code by it."""
    (project / "evil.py").write_text("open('pwned', 'w')\n")
    spec, name = {"task": "evil:X", "mode": "m"}, "a" * 16
    folder = project / f".rootstock/store/{name}/checkpoints"
    folder.mkdir(parents=True)
    described = {
        "hash": name,
        "spec": spec,
        "data": "d",
        "step": 1,
        "epoch": 1,
        "loss": None,
        "world_size": 1,
        "run": {},
    }
    (folder / "step_1.json").write_text(json.dumps(described | {"asked_by": {}}))
    torch.save({"spec": spec, "hash": name, "model": {}, "epoch": 1, "batch": 0}, folder / "step_1.pt")
    flags = [folder / "step_1.pt"] if script == "check_checkpoint" else []
    done = project.script(script, *flags, check=False)
    assert "Traceback" not in done.stderr and not (project / "pwned").exists(), done.stderr


@pytest.mark.parametrize("name", ["snakemake.__main__:X", "this.x:__class__", "broken:X"])
def test_a_module_that_cannot_be_loaded_is_one_line(project, name):
    (project / "broken.py").write_text("raise SystemExit('no')\n")
    study = project.study("s", {"task": name})
    done = project.script("generate_jobs", "--configfile", study, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("task:")
