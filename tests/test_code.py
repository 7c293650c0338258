"""The code that builds a model: a comment changes nothing, a changed line is told when planned, refused when loaded, trained anew."""

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PEOPLE, job_of, plan, ran
from tiny import TINY

from rootstock import load_model
from rootstock.controller import checking
from rootstock.controller.code import (
    changed_code,
    code_notes,
    of_other_code,
    remember_code,
    require_code_of,
    to_begin,
)
from rootstock.engine.files import load, to_bytes
from rootstock.job.start import state_of
from rootstock.job.train import train
from rootstock.study import paths
from rootstock.study.code import Source, code_digest, with_imports
from rootstock.study.problems import Refusal, StudyError
from rootstock.tasks.activity import presets
from rootstock.tasks.registry import TASKS

# A bit of all that Python has; its digest must be this under each version, or models would be refused after an update.
PINNED = '''\
"""A text."""
from __future__ import annotations

import os.path as place
from .beside import one, two as other


@wrapped(1, key=-2.5e3, **more)
class Net(Base, metaclass=Meta):
    """A text."""

    width: int = 3
    "a text about the line above"

    async def forward(self, x, /, y=None, *rest, z: float, w="ü\\u2028", **named) -> tuple[int, ...]:
        with torch.no_grad() as a, b:
            x[1:2, ..., ::-1] += lambda q: (yield q) if not q else {**named, "k": [*rest]}
        try:
            return f"{x!r:>{width}} is" "joined" + str(b"\\x00") + str(1j)
        except (ValueError, OSError) as error:
            raise Refusal from error
        finally:
            del x.y; assert (n := 1_000) != 0x10, "no"
        match x:
            case [1, *_] | {"a": None, **others} | Point(x=0) if y is not None:
                pass
        for i in (j for j in range(3) if j for k in j):
            continue
        else:
            await z
'''


def digest_of(folder: Path, text: str, *names: str) -> str:
    file = folder / f"code{len(list(folder.iterdir()))}.py"
    file.write_text(text)
    return code_digest([Source(file, names)])


def test_the_digest_of_a_text_is_the_same_under_each_python(tmp_path):
    assert digest_of(tmp_path, PINNED) == "6a412b44bb3adb9c"


def test_comments_and_docstrings_and_spaces_change_no_digest(tmp_path):
    plain = 'def f(x):\n    return g("a", x)\n\nclass A:\n    size = 1\n'
    told = '"""Text."""\n# more\ndef f( x ):\n    """Text."""\n    return g(\'a\',\n  x)  # less\n\nclass A:\n    size = 1\n    "text"\n'
    assert digest_of(tmp_path, plain) == digest_of(tmp_path, told)
    for other in (
        plain.replace('"a"', '"b"'),
        plain.replace("1", "1.0"),
        plain.replace("return ", ""),
        plain + "h()\n",
    ):
        assert digest_of(tmp_path, plain) != digest_of(tmp_path, other)


def test_of_a_name_only_what_it_uses_counts(tmp_path):
    text = "import a, b\nX = 1\nY: int = 2\ndef use(x):\n    return a(X, x)\nclass Net:\n    f = use\nclass Other:\n    g = b(Y)\n"
    net = digest_of(tmp_path, text, "Net")
    for unused in (text.replace("2", "3"), text.replace("b(Y)", "b(Y, Y)"), text + "class New: ...\n"):
        assert digest_of(tmp_path, unused, "Net") == net
    for used in (text.replace("X = 1", "X = 2"), text.replace("a(X, x)", "a(x)"), text + "Net.f = None\n"):
        assert digest_of(tmp_path, used, "Net") != net
    with pytest.raises(Refusal, match="defines no Gone"):
        digest_of(tmp_path, text, "Gone")


def test_what_a_module_imports_beside_it_is_found_without_importing_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets/parts").mkdir(parents=True)
    files = {
        "nets/__init__.py": "raise SystemExit",
        "nets/mine.py": "import torch, json\nfrom .parts import block\nimport helpers as h\n",
        "nets/parts/__init__.py": "from ..deep import x",
        "nets/parts/block.py": "import nets.mine",  # a circle
        "nets/deep.py": "",
        "nets/other.py": "",
        "helpers.py": "def f():\n    from lazy import y\n",
        "lazy.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = {str(source.file.relative_to(tmp_path)) for source in with_imports("nets.mine")}
    assert found == set(files) - {"nets/other.py"} and "nets" not in sys.modules
    code = code_digest(with_imports("nets.mine"))
    monkeypatch.chdir(tmp_path.parent)  # as a program that loads a model
    monkeypatch.syspath_prepend(str(tmp_path))
    assert code_digest(with_imports("nets.mine")) == code


def test_packages_that_are_installed_side_by_side_do_not_belong_together(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "shared_net_of_test.py").write_text("import big_of_test\n")
    (site / "big_of_test.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    assert [source.file.name for source in with_imports("shared_net_of_test")] == ["shared_net_of_test.py"]


NET = """\
from torch import nn
from my_parts import pooled
class Net(nn.Module):
    def __init__(self, in_channels, n_outputs):
        super().__init__()
        self.body, self.head = nn.Conv1d(in_channels, 4, 5), nn.Linear(4, n_outputs)
    def forward(self, x):
        return self.head(pooled(self.body(x)))
"""
PARTS = "def pooled(x):\n    return x.relu().mean(2)\n"


def test_an_own_class_is_known_by_its_code_and_that_of_the_modules_beside_it(people, project, monkeypatch):
    monkeypatch.chdir(project.folder)

    def planned(net: str, parts: str) -> set[str]:
        Path("my_nets.py").write_text(net)
        Path("my_parts.py").write_text(parts)
        return set(plan(**STUDY | {"base": {"model": "my_nets:Net"}}).bases)

    before = planned(NET, PARTS)
    assert planned('"""Mine."""\n' + NET, PARTS + "# a comment\n") == before
    assert planned(NET, PARTS.replace("relu", "tanh")).isdisjoint(before)
    assert planned(NET.replace("4", "8"), PARTS).isdisjoint(before)
    with pytest.raises(StudyError, match=r'base.model: "my_nets:Net" my_parts.py is not valid Python'):
        planned(NET, "def")


@pytest.fixture
def own(people, project, monkeypatch):
    """A base model of an own class, trained in the project's folder; nothing of it is imported any more."""
    monkeypatch.chdir(project.folder)
    Path("my_nets.py").write_text(NET)
    Path("my_parts.py").write_text(PARTS)
    project.publish_here(STUDY | {"base": {"model": "my_nets:Net", "max_epochs": 1}, "finetune": {"mode": "base_only"}})
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(project.folder))])
    forget_own()
    yield next(project.folder.glob("base_models/*.pt"))
    forget_own()


def forget_own() -> None:
    for name in ("my_nets", "my_parts"):
        sys.modules.pop(name, None)


def test_a_model_of_an_own_class_is_loaded_elsewhere_where_its_module_is_found(own, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(Refusal) as refusal:
        load_model(own, own_class="my_nets:Net")
    line = str(refusal.value)
    assert line.startswith(f"{own}: no module 'my_nets'") and "add that one to PYTHONPATH" in line and "\n" not in line
    monkeypatch.syspath_prepend(str(own.parents[1]))
    assert load_model(own, own_class="my_nets:Net")(torch.zeros(2, 3, 32)).shape == (2, 3)


def test_a_model_of_an_own_class_that_changed_is_told_what_really_helps(own):
    Path("my_parts.py").write_text(PARTS.replace("relu", "tanh"))
    with pytest.raises(Refusal, match=r"made by other code .*; put that code back, or run its study again") as refusal:
        load_model(own)
    assert "retrain=true" not in str(refusal.value)  # which would train it under its new name


@pytest.mark.parametrize(
    ("x", "line"),
    [
        (torch.zeros(3, 32), r"not \[3, 32\]; give one window as x\[None\]"),
        (torch.zeros(2, 32, 3), r"not \[2, 32, 3\]; give x.transpose\(1, 2\)"),
        (torch.zeros(2, 5, 32), r"takes float32 windows \[N, 3 channels, samples\], not \[2, 5, 32\]"),
        (torch.zeros(2, 3, 32).double(), "not torch.float64; give x.to"),
        ([[0.0]], "not list; give torch.as_tensor"),
    ],
)
def test_what_a_loaded_model_cannot_take_is_one_line(published, x, line):
    model = load_model(trainings()[1].hash)
    model(torch.zeros(2, 3, 32))
    with pytest.raises(Refusal, match=line):
        model(x)


def test_an_error_in_an_own_class_names_its_file_and_line(own, project, capsys):
    text = NET.replace(
        "        return self.head",
        "        if {}:\n            raise KeyError('no such thing')\n        return self.head",
    )
    lines = {"in training only": "len(x) > 2", "always": "True"}
    for when, condition in lines.items():
        forget_own()
        Path("my_nets.py").write_text(text.format(condition))
        flags = (
            "--fold",
            "0",
            "--data_path",
            "data/tiny",
            "--participants",
            *PEOPLE,
            "--model",
            "my_nets:Net",
            "--lr",
            "0.01",
        )
        status, _, err = ran(project, capsys, "train_base", *flags)
        assert (
            status == 1 and len(err.splitlines()) == 1 and "my_nets.py:9, in forward" in err and "no such thing" in err
        ), when


# Of models that are there


STUDY = {
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "folds": [0],
    "base": {"model": "test", "max_epochs": 2, "lr": 0.01},
    "finetune": {"mode": "last_layer_only", "max_epochs": 1},
}


@pytest.fixture
def published(project, people, monkeypatch):
    """A base model and a fine-tune, published, and the function that changes the code of their network."""
    monkeypatch.chdir(project.folder)
    project.publish_here(STUDY)
    text = presets.MODELS.read_text()
    changed = project / "models.py"

    def change(old: str = ".add_(1e-5).rsqrt_()", new: str = ".add_(1e-3).rsqrt_()") -> None:
        assert old in text
        changed.write_text(text.replace(old, new))
        monkeypatch.setattr(presets, "MODELS", changed)

    return change


def trainings():
    planned = plan(**STUDY)
    (base,), (tuned,) = planned.bases.values(), planned.experiments.values()
    return planned, base, tuned


def refused(call, *words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        call()
    line = str(refusal.value)
    assert "\n" not in line and all(word in line for word in ("made by other code", "retrain=true", *words)), line


def test_the_code_is_written_down_wherever_a_model_is(published):
    _, base, tuned = trainings()
    code = TASKS.find("activity").code_of(base.spec, None)
    described = ("base_models/*_metadata.json", "experiments/*/*/config.json", ".rootstock/store/*/metadata.json")
    found = [json.loads(file.read_text())["code"] for pattern in described for file in Path().glob(pattern)]
    assert found == [code] * 4
    assert {load(file)["code"] for file in Path().glob(".rootstock/store/*/*.pt")} == {code}
    assert load(f"{tuned.path}/best_model.pt")["base_spec"] == json.loads(base.json)


def test_a_changed_network_is_told_when_planned_and_refused_when_loaded(published):
    planned, base, tuned = trainings()
    assert of_other_code(planned) == {}
    published()
    found = of_other_code(planned)
    assert set(found) == {base.hash, tuned.hash}
    (line,) = code_notes(planned, found)
    assert line.startswith("2 trained models made by other code than is here now (") and "models.py" in line
    files = [paths.base_model(base.hash), tuned.path, base.hash, f".rootstock/store/{tuned.hash}/model.pt"]
    for file in files:
        refused(lambda file=file: load_model(file))


def test_what_a_run_would_come_upon_is_told_before_its_first_job(published):
    planned, base, tuned = trainings()
    other = plan(**STUDY | {"finetune": STUDY["finetune"] | {"max_epochs": 2}})
    published()
    found = of_other_code(planned)
    require_code_of(planned, found, to_begin(planned))  # all is published: nothing is begun
    refused(lambda: require_code_of(other, of_other_code(other), to_begin(other)), base.hash, "forget")
    shutil.rmtree(tuned.path)
    refused(lambda: require_code_of(planned, found, to_begin(planned)), tuned.hash)
    Path(paths.base_model(base.hash)).unlink()
    refused(lambda: require_code_of(planned, found, to_begin(planned)), base.hash, tuned.hash)
    refused(lambda: require_code_of(planned, found, [], [base.hash]), base.hash)
    anew = plan(**STUDY | {"retrain": True})
    require_code_of(anew, found, to_begin(anew))


def test_check_names_models_of_other_code(published, project, capsys, monkeypatch):
    monkeypatch.setattr(checking, "is_slurm_here", lambda: False)
    project.study("t", STUDY)
    check = ("generate_jobs", "--check", "--configfile", "t.yaml")
    published()
    assert ran(project, capsys, *check)[0] == 0  # there is nothing to begin
    shutil.rmtree(trainings()[2].path)
    status, out, err = ran(project, capsys, *check)
    assert status == 1 and "note: 2 trained models made by other code" in out and not out.endswith("ok\n")
    assert len(err.splitlines()) == 1 and "models that this run needs" in err and "retrain=true" in err
    assert "\n2 of 2 trainings already in the store\n" in out
    status, out, _ = ran(project, capsys, *check, "--config", "retrain=true")
    assert status == 0 and "\n0 of 2 trainings already in the store; 2 made by other code are trained anew\nok\n" in out


def test_what_changed_since_a_study_last_ran_is_told_where_trainings_are_new(people, project, monkeypatch):
    monkeypatch.chdir(project.folder)
    Path("my_nets.py").write_text(NET)
    Path("my_parts.py").write_text(PARTS)
    study = STUDY | {"base": {"model": "my_nets:Net"}}
    first = plan(**study)
    assert changed_code(first, {}) == []  # it never ran
    remember_code(first)
    Path("my_nets.py").write_text(NET + "# a comment\n")
    assert changed_code(plan(**study), {}) == []
    Path("my_parts.py").write_text(PARTS.replace("relu", "tanh"))
    (line,) = changed_code(plan(**study), {})
    assert line.startswith("my_parts.py changed since this study last ran here; 2 trainings are new")
    assert changed_code(plan(**study), dict.fromkeys(plan(**study).reaches)) == []
    Path(".rootstock/code/t.json").write_text("[]")
    assert changed_code(plan(**study), {}) == []


def test_an_export_refuses_a_model_of_other_code_before_it_writes(published, monkeypatch):
    _, base, _ = trainings()
    published()
    monkeypatch.setattr(sys, "argv", ["export_model.py", "--hash", base.hash, "--output", "out"])
    refused(importlib.import_module("export_model").main, base.hash)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [("    def forward(self, x: Tensor)", "    # a comment\n    def forward(self, x: Tensor)"),
     ("The `test` preset", "The smallest preset"), ("nn.ReLU(), nn.MaxPool1d(2)", "nn.Tanh(), nn.MaxPool1d(2)")],
)  # fmt: skip
def test_a_comment_a_docstring_and_another_network_change_nothing(published, old, new):
    published(old, new)
    planned, _, tuned = trainings()
    assert of_other_code(planned) == {}
    load_model(tuned.path)
    train(job_of(tuned, paths.STORE))


def test_a_fine_tune_refuses_a_base_of_other_code_and_a_job_hands_out_none(published):
    _, base, tuned = trainings()
    published()
    refused(lambda: train(job_of(base, paths.STORE)), base.hash)
    refused(lambda: train(job_of(tuned, paths.STORE)), tuned.hash)
    refused(lambda: train(job_of(tuned, "empty")), paths.base_model(base.hash))
    assert load(f".rootstock/store/{base.hash}/model.pt")["hash"] == base.hash  # it is whole


def test_what_is_trained_anew_replaces_the_old_when_it_is_done(published, monkeypatch):
    _, base, _ = trainings()
    kept = job_of(base, paths.STORE).kept
    before = load(kept.model)
    published()
    anew = replace(job_of(base, paths.STORE), retrain=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rootstock.job.train.metadata_of", stopped)
        train(anew)
    assert (
        torch.equal(load(kept.model)["model"]["mean"], before["model"]["mean"])
        and kept.read()["code"] == before["code"]
    )
    train(anew)
    after = load(kept.model)
    assert kept.read()["code"] == after["code"] != before["code"]
    said = []
    train(replace(anew, say=said.append))
    assert said == [f"{base.hash} is in the store; nothing to train"]


def stopped(*_):
    raise KeyboardInterrupt


def test_an_unfinished_training_of_other_code_begins_anew_unless_its_checkpoint_is_named(published, monkeypatch):
    _, base, _ = trainings()
    job = replace(job_of(base, "other"), run=job_of(base).run.model_copy(update={"checkpoint_steps": 1}))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("rootstock.job.train.metadata_of", stopped)
        train(job)
    checkpoint = sorted(job.kept.checkpoints.glob("*.pt"))[-1]
    published()
    refused(lambda: state_of(replace(job, checkpoint=str(checkpoint))), str(checkpoint))
    refused(lambda: load_model(checkpoint))
    said = []
    train(replace(job, say=said.append))
    assert sum("checkpoint passed over" in line and "of other code" in line for line in said) == 2
    assert any("epoch 1/2" in line for line in said)


def test_a_longer_training_does_not_go_on_from_where_other_code_ended(published):
    _, base, _ = trainings()
    (longer,) = plan(**STUDY | {"base": STUDY["base"] | {"max_epochs": 3}}).bases.values()
    published()
    said = []
    train(replace(job_of(longer, paths.STORE), continues=base.hash, say=said.append))
    assert any(line.startswith(f"{base.hash} was made by other code") and "from the start" in line for line in said)
    assert any("epoch 1/3" in line for line in said)


def test_a_rewrite_that_gives_the_same_bits_is_listed_and_invalidates_nothing(published, monkeypatch):
    """What a developer does who makes a network quicker: `same_code` says which earlier code it computes the same as."""
    planned, base, tuned = trainings()
    task = TASKS.find("activity")
    old = task.code_of(base.spec, None)
    published("y = centred * scale", "y = scale * centred")
    new = task.code_of(base.spec, None)
    monkeypatch.setattr(type(task), "same_code", {new: old})
    assert of_other_code(planned) == {}
    load_model(tuned.path)
    published()  # and later another meaning
    assert len(of_other_code(planned)) == 2


def test_what_was_made_before_code_was_recorded_is_taken(published):
    planned, base, tuned = trainings()
    kept = job_of(base, "before").kept
    with job_of(base, paths.STORE).kept.opened() as files:
        content = {name: value for name, value in load(files.model).items() if name != "code"}
        metadata = {name: value for name, value in files.content.items() if name != "code"}
    kept.commit(to_bytes(content), metadata, base.json)
    kept.publish_base(Path(paths.base_model(base.hash)), paths.base_metadata(paths.base_model(base.hash)))
    published()
    assert set(of_other_code(planned)) == {tuned.hash}
    load_model(paths.base_model(base.hash))
    assert train(job_of(base, "before")) == kept


@pytest.mark.parametrize("task", sorted(TINY))
def test_each_task_names_code_that_is_there(task, tmp_path, monkeypatch):
    """Of a task of a user's own: `load_model` of train.py and what it uses."""
    monkeypatch.chdir(tmp_path)
    TINY[task].write(tmp_path / "data/tiny")
    planned = plan(**TINY[task].content())
    (base,), (tuned,) = planned.bases.values(), planned.experiments.values()
    own = planned.study.task
    assert own.code_of(base.spec, None) == own.code_of(tuned.spec, base.spec)
    assert all(source.file.is_file() for source in own.built_by(base.spec, None))


def test_an_own_task_is_noticed_where_its_network_changes_and_not_where_it_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TINY["own"].write(tmp_path / "data/tiny")
    task, file = TASKS.find("curves.task:Curves"), tmp_path / "curves/train.py"
    (base,) = plan(**TINY["own"].content()).bases.values()
    before, text = task.code_of(base.spec, None), file.read_text()
    file.write_text(text.replace(".square().sum()", ".abs().sum()"))
    assert task.code_of(base.spec, None) == before
    file.write_text(text.replace("nn.Tanh()", "nn.ReLU()"))
    assert task.code_of(base.spec, None) != before
