"""The package as a library: installed, or beside the scripts; models of any task loaded from any file that holds them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Project
from tiny import TINY

from rootstock import Refusal, load_model
from rootstock.study.problems import StudyError
from rootstock.tasks.loading import verified_content


@pytest.fixture(params=sorted(TINY), scope="module")
def trained(request, tmp_path_factory) -> tuple[str, Project]:
    """A project in which the tiny study of a task is trained and published."""
    folder = tmp_path_factory.mktemp("project")
    project, tiny = Project(folder), TINY[request.param]
    tiny.write(folder / "data/tiny")
    project.publish_here(tiny.content({"run": {"keep_checkpoints": 2}}))
    return request.param, project


def test_a_model_of_any_task_is_loaded_from_any_file_that_holds_it(trained, monkeypatch):
    _, project = trained
    monkeypatch.chdir(project.folder)
    (experiment,) = project.folder.glob("experiments/*/*/metrics.json")
    name = json.loads(experiment.read_text())["hash"]
    files = [
        experiment.parent,
        experiment.parent / "best_model.pt",
        name,
        name[:8],
        f".rootstock/store/{name}/model.pt",
        f".rootstock/store/{name}",
    ]
    models = [load_model(file) for file in files]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in states[0])
    assert not any(model.training for model in models)
    base = load_model(next(project.folder.glob("base_models/*.pt")))
    kept = load_model(sorted(project.folder.glob(".rootstock/store/*/checkpoint_step_*.pt"))[0])
    assert type(base) is type(kept) is type(models[0])


def test_a_flipped_bit_in_an_experiment_is_noticed(trained, monkeypatch):
    _, project = trained
    monkeypatch.chdir(project.folder)
    (file,) = project.folder.glob("experiments/*/*/best_model.pt")
    whole = file.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(Refusal, match="damaged"):
        load_model(file)
    done = project.script("check_checkpoint", file, check=False)
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(Refusal, match=r"recorded in .*metrics\.json"):  # away from its store too
        verified_content(file, "elsewhere")
    file.write_bytes(whole)
    assert verified_content(file, "elsewhere")["hash"]


def test_one_exception_is_all_that_a_user_catches():
    with pytest.raises(Refusal):
        load_model("x", task="no.such:Task")
    assert issubclass(StudyError, Refusal)


def test_what_is_no_model_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": torch.zeros(1)}, "other.pt")
    (tmp_path / "empty").mkdir()
    wrong = (
        ("other.pt", "is not a model of Rootstock"),
        ("nowhere", "holds no model"),
        ("empty", "holds neither best_model.pt nor model.pt"),
        ("", "names nothing"),
        ("a" * 5000, "holds no model"),
    )
    for what, reason in wrong:
        with pytest.raises(Refusal, match=reason) as refusal:
            load_model(what)
        assert "\n" not in str(refusal.value)


def test_it_installs_and_imports_light(tmp_path):
    """As `pip install -e .` does, without its dependencies, into a folder of its own."""
    source, site = tmp_path / "source", tmp_path / "site"  # a copy: building leaves files beside what it builds
    shutil.copytree(ROOT / "workflow/scripts/rootstock", source / "workflow/scripts/rootstock")
    for file in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("requirements*.txt")):
        shutil.copy(file, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)]
    done = subprocess.run([*pip, str(source)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code = "import rootstock, sys; assert 'torch' not in sys.modules; print(rootstock.load_model.__name__, rootstock.__file__)"
    environment = {"PYTHONPATH": str(site)}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("load_model") and Path(said.stdout.split()[1]).is_relative_to(site)
    assert list(site.glob("rootstock-*.dist-info"))
