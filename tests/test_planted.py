"""Files that somebody else made: what they name is not imported, what they hold is not taken for what it is not."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, job_of, plan, ran, refused

from rootstock import load_model
from rootstock.engine.files import to_bytes
from rootstock.job.train import train
from rootstock.study.code import code_digest, with_imports
from rootstock.study.identity import canonical, digest
from rootstock.study.own import NAMED, name_own
from rootstock.study.problems import Refusal
from rootstock.tasks.activity.models import build_model
from rootstock.tasks.activity.specs import Model
from rootstock.tasks.registry import TASKS

OWN = """\
from pathlib import Path
from torch import nn
Path("ran").touch()
class Net(nn.Linear):
    def __init__(self, in_channels, n_outputs, **settings):
        super().__init__(in_channels, n_outputs)
    def forward(self, x):
        return super().forward(x.mean(2))
def evil(*args, **settings):
    Path("called").touch()
class Thing:
    __init__ = evil
"""


@pytest.fixture
def nets(project, people, monkeypatch) -> str:
    """A module of the user's own, that notes when it is imported; its name, another for each test."""
    monkeypatch.chdir(project.folder)
    name = f"nets_{project.folder.parent.name}"
    (project / f"{name}.py").write_text(OWN)
    NAMED.clear()
    yield name
    sys.modules.pop(name, None)


def base_of(architecture: str):
    """A base training with a network of the user's own."""
    (base,) = plan(data={"path": "data/tiny"}, base={"model": architecture, "max_epochs": 1}, folds=[0]).bases.values()
    return base


def file_of(base, model: Model | None = None, folder: Path = Path("given"), **more) -> Path:
    """A file as this very training would have left it, or one that names another network."""
    model, spec = model or base.spec.model, json.loads(canonical(base.spec))
    content = {
        "model": {},
        "spec": spec,
        "hash": digest(base.spec),
        "architecture": json.loads(canonical(model)),
        "in_channels": 6,
        "n_outputs": 1,
        "n_classes": None,
        "binary": True,
        "code": TASKS.find("activity").code_of(base.spec, None),
        **more,
    }
    folder.mkdir(exist_ok=True)
    (folder / "model.pt").write_bytes(to_bytes(content))
    return folder / "model.pt"


def source_of(module: str) -> str:
    return code_digest(with_imports(module))


def test_a_class_that_only_a_file_names_is_not_imported(project, nets, capsys):
    base = base_of(f"{nets}:Net")
    file = file_of(base)
    with pytest.raises(Refusal, match=r"only a file names it.*name it by --own_class"):
        load_model(file)
    assert "only a file names it" in refused(project, capsys, "check_checkpoint", file)
    assert not (project / "ran").exists() and nets not in sys.modules
    with pytest.raises(Refusal, match="of another architecture"):  # its weights are none; the class was loaded
        load_model(file, own_class=f"{nets}:Net")
    assert (project / "ran").exists()


@pytest.mark.parametrize("named", ["subprocess:Popen", "shutil:rmtree"])
def test_what_a_file_names_beside_its_spec_is_not_called(project, people, monkeypatch, named):
    """The hash of a module's code is nobody's secret."""
    monkeypatch.chdir(project.folder)
    file = file_of(base_of("test"), Model(architecture=named, settings={}, source=source_of(named.partition(":")[0])))
    with pytest.raises(Refusal, match=r"only a file names it"):
        load_model(file)
    with pytest.raises(Refusal, match=r"is no subclass of torch\.nn"):
        load_model(file, own_class=named)


def test_who_starts_from_a_base_of_an_own_class_names_it(project, nets, capsys):
    """The name of a base model is not the name of a class: the base may be of a store that others write too."""
    own = f"{nets}:Net"
    study = {"data": {"path": "data/tiny"}, "base": {"model": own, "max_epochs": 2}, "folds": [0]}
    project.publish_here({"study": "own", "run": {"keep_checkpoints": 1}} | study, ".rootstock/store")
    (name,) = (file.stem for file in project.folder.glob("base_models/*.pt"))
    (project / "ran").unlink()
    NAMED.clear()
    sys.modules.pop(nets)
    by_hand = ["--base_model_hash", name, "--fold", "0", "--mode", "last_layer_only", "--data_path", "data/tiny"]
    assert "give its --model" in ran(project, capsys, "train_finetune", *by_hand)[2]
    finetune = {"mode": "last_layer_only", "max_epochs": 1}
    (tuned,) = plan(**study, finetune=finetune).experiments.values()
    given = ["--spec", tuned.json, "--data_path", "data/tiny", "--base", f"base_models/{name}.pt", "--output", "out"]
    assert "only a file names it" in ran(project, capsys, "train_finetune", *given)[2]
    checkpoint = project / f".rootstock/store/{name}/checkpoint_step_1.pt"
    assert "only a file names it" in refused(project, capsys, "resume_training", "--checkpoint", checkpoint)
    assert not (project / "ran").exists()
    resume = [project.python, "workflow/scripts/resume_training.py", "--checkpoint", checkpoint, "--own_class", own]
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.execv", lambda _, command: told.extend(command))
        ran(project, capsys, "resume_training", *resume[2:])
    assert told[-2:] == ["--own_class", own]
    for flags in ([*by_hand, "--model", own], [*given, "--own_class", own]):
        NAMED.clear()
        assert ran(project, capsys, "train_finetune", *flags)[0] == 0


def test_a_class_named_in_a_study_reaches_its_fine_tunes(project, nets):
    """As the workflow passes it on: see rules/finetune.smk."""
    (tuned,) = plan(
        data={"path": "data/tiny"},
        base={"model": f"{nets}:Net"},
        folds=[0],
        finetune={"mode": "last_layer_only"},
    ).bases.values()
    assert tuned.spec.own_class == f"{nets}:Net" and base_of("test").spec.own_class is None
    rules = (ROOT / "workflow/rules/finetune.smk").read_text()
    assert "--own_class {resources.own_class:q}" in rules


def test_an_own_class_of_other_code_or_of_unknown_code_is_not_built(project, nets):
    own = f"{nets}:Net"
    name_own(own)
    for source, reason in ((None, "without the hash of its code"), ("0" * 16, "is of other code")):
        with pytest.raises(Refusal, match=reason):
            build_model(Model(architecture=own, settings={}, source=source), 6, 1)
    assert not (project / "ran").exists()


@pytest.mark.parametrize("name", ["Path", "nn", "build_model", "torch", "x.y:__class__"])
def test_a_network_is_one_of_ours_or_a_class_of_its_user(name):
    with pytest.raises(Refusal, match="is none of ConvBlocks"):
        build_model(Model(architecture=name, settings={}, source="0" * 16), 1, 1)


# A model under a name that is not its own


def base_job(**base):
    study = {"data": {"path": "data/tiny"}, "folds": [0], "base": {"max_epochs": 1} | base}
    (training,) = plan(**study, run={"device": "cpu"}).bases.values()
    return job_of(training)


INDICES = {"another": '{{"{other}": "{wanted}"}}', "deep": "[" * 200_000, "odd": '{{"{other}": [1]}}'}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_former_names_makes_no_model_another(project, people, monkeypatch, index):
    """Whoever writes into a store writes its index: another seed's model was committed, and signed, under this one's hash."""
    monkeypatch.chdir(project.folder)
    other, wanted, said = train(base_job()), base_job(seed=7), []
    told = index.format(other=other.hash, wanted=wanted.hash)
    (other.store / "former_names_1.json").write_text(told)
    kept = train(replace(wanted, say=said.append))
    assert kept.read()["spec"]["seed"] == 7 and any("epoch 1/" in line for line in said)


def test_a_long_chain_of_stages_in_a_store_stops_no_training(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    before = "0" * 16
    for _ in range(1200):
        text = canonical({"task": "activity", "parent": before})
        before = digest({"task": "activity", "parent": before})
        (project / f"store/{before}").mkdir(parents=True)
        (project / f"store/{before}/metadata.json").write_text(json.dumps({"spec_json": text}))
    assert train(base_job()).is_whole()


CODE = "from pathlib import Path\nPath({ran!r}).touch()\nclass Evil: ...\n"
AUTO = {f"Auto{what}": "evil.Evil" for what in ("Config", "Model", "Tokenizer")} | {
    "AutoTokenizer": ["evil.Evil", "evil.Evil"]
}


@pytest.mark.parametrize("model_type", ["bert", "nobody_knows"])
def test_no_code_of_a_pretrained_folder_is_run_nor_asked_about(tmp_path, monkeypatch, model_type):
    from rootstock.tasks.distillation.specs import ModelIdentity, Student
    from rootstock.tasks.distillation.student import pretrained_student
    from rootstock.tasks.distillation.teacher import load_teacher

    def ask(*_):
        raise AssertionError("asked whether to run it")

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("rootstock.tasks.distillation.student.locate", lambda _: str(tmp_path))
    monkeypatch.setattr("rootstock.tasks.distillation.teacher.locate", lambda _: str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": AUTO}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": AUTO}))
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]))
    (tmp_path / "evil.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    identity = ModelIdentity(folder="given", content="0" * 16)
    student = Student.model_construct(
        model=identity, layers=None, dimension=None, projection_hidden_dim=None, dropout=None
    )
    for load in (
        lambda: pretrained_student(student, 16, None),
        lambda: load_teacher(identity, 16, "float32", torch.device("cpu")),
    ):
        with pytest.raises(Refusal, match="cannot be loaded"):
            load()
    assert not (tmp_path / "ran").exists()


def test_a_model_file_names_no_code_of_its_transformer():
    from rootstock.tasks.distillation.student import without_code

    told = {"model_type": "bert", "auto_map": AUTO, "inner": [{"_attn_implementation": "a/kernel", "n": 1}]}
    assert without_code(told) == {"model_type": "bert", "inner": [{"n": 1}]}
