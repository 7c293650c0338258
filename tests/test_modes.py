"""Modes that change a part of the base model: what their files hold, shots of each class, and no harm."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PEOPLE, Project, job_of, plan, write_people
from torch import nn

from rootstock import load_model
from rootstock.engine.files import load
from rootstock.engine.low_rank import NAME, add_to_weights, merged, plainly_named
from rootstock.engine.rows import Rows
from rootstock.job.train import train
from rootstock.study.problems import Refusal, StudyError
from rootstock.tasks.activity.amount import take_shots
from rootstock.tasks.activity.data import Windows, read_people
from rootstock.tasks.activity.gradient_free import features, normalise, set_prototypes
from rootstock.tasks.activity.kept import is_better
from rootstock.tasks.activity.models import build_model, last_layer
from rootstock.tasks.activity.presets import PRESETS
from rootstock.tasks.activity.specs import Model

UPDATES = ("last_layer_only", "adapters", "prototypes", "normalise")
STUDY: dict[str, Any] = {
    "data": {"path": "d"},
    "participants": list(PEOPLE),
    "folds": [0],
    "base": {"model": "pooled", "max_epochs": 3, "lr": 0.01, "batch_size": 16, "base_channels": 16},
    "finetune": {"mode": list(UPDATES), "max_epochs": 3},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """A project with a base model and a fine-tune of every such mode, published."""
    project = Project(tmp_path_factory.mktemp("modes"))
    write_people(project / "d")
    project.publish_here(STUDY)
    return project


@pytest.fixture
def project(trained, tmp_path, monkeypatch) -> Path:
    shutil.copytree(trained.folder, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def networks() -> list[tuple[str, nn.Module]]:
    return [(name, build_model(Model(architecture=a, settings=s), 3, 4)) for name, (a, s) in PRESETS.items()]


def of_mode(mode: str) -> Path:
    (file,) = (one for one in Path("experiments").glob("*/*/best_model.pt") if load(one)["spec"]["mode"] == mode)
    return file


def changed_names(mode: str) -> set[str]:
    return set(load(of_mode(mode))["model"])


def windows(y: list[int], seed: int = 0, samples: int = 32) -> Windows:
    x = torch.randn(len(y), 3, samples, generator=torch.Generator().manual_seed(seed))
    return Windows(Rows([x]), torch.tensor(y))


def test_a_file_holds_only_what_its_mode_changes(project):
    layer = {"network.classifier.weight", "network.classifier.bias"}
    assert changed_names("last_layer_only") == layer and changed_names("prototypes") == layer
    assert changed_names("normalise") == {"mean", "std"}
    names = changed_names("adapters")
    assert names and all(f".{NAME}." in name for name in names)
    assert sum(name.endswith(f"{NAME}.up") for name in names) == 6  # five convolutions and a linear layer


@pytest.mark.parametrize("mode", UPDATES)
def test_load_model_gives_the_whole_network_from_the_base_and_what_changed(project, mode):
    content = load(of_mode(mode))
    base = load(Path(f"base_models/{content['spec']['base']}.pt"))["model"]
    model = load_model(of_mode(mode)).eval()
    wanted = merged(base | content["model"])
    assert model.state_dict().keys() == base.keys()
    assert all(torch.equal(weights, wanted[name]) for name, weights in model.state_dict().items())
    assert any(not torch.equal(weights, base[name]) for name, weights in model.state_dict().items())
    metrics = train(job_of(experiment_of(mode), ".rootstock/store")).described()["metrics"]
    test = read_people("d", ("ann",), ("test",))
    with torch.no_grad():
        right = (model(test.x.all()).argmax(1) == test.y).float().mean().item()
    assert right == pytest.approx(metrics["test"]["accuracy"])


def experiment_of(mode: str):
    (one,) = (one for one in plan(**STUDY).experiments.values() if one.settings["mode"] == mode)
    return one


def test_without_its_base_model_such_a_file_is_refused(project):
    shutil.rmtree("base_models")
    shutil.rmtree(".rootstock/store/" + load(of_mode("adapters"))["spec"]["base"])
    with pytest.raises(Refusal, match="holds only what changed of its base model"):
        load_model(of_mode("adapters"))


@pytest.mark.parametrize(("preset", "model"), networks())
def test_adapters_in_the_weights_compute_what_full_weights_compute(preset, model):
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(4, 3, 64)
    before = model.eval()(x)
    paths = add_to_weights(model, rank=2, alpha=4.0)
    assert torch.equal(model(x), before)  # an untrained update changes nothing
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(learned) == 2 * len(paths)
    for parameter in learned:
        nn.init.normal_(parameter, std=0.1)
    weights = merged(plainly_named(model.state_dict()))
    assert weights.keys() == base.keys()
    full = dict(networks())[preset].eval()
    full.load_state_dict(weights)
    assert torch.equal(full(x), model(x)) and not torch.equal(full(x), before)
    assert all(torch.equal(base[n], weights[n]) for n in base if n.removesuffix(".weight") not in paths)


def test_prototypes_tell_the_nearest_class_mean():
    model = dict(networks())["pooled"].eval()
    own, others = windows([0, 1, 2, 3] * 6), windows([0, 1, 2, 3] * 20, seed=1)
    x, shared = features(model, own), features(model, others)
    set_prototypes(model, own, others, prior=0.0, say=print)
    means = torch.stack([x[own.y == label].mean(0) for label in range(4)])
    of_class = torch.stack([shared[others.y == label].mean(0) for label in range(4)])
    spread = (shared - of_class[others.y]).square().mean(0) + 1e-4
    tested = windows([0] * 50, seed=2)
    distance = ((features(model, tested)[:, None] - means).square() / spread).sum(2)
    assert torch.equal(model(tested.x.all()).argmax(1), distance.argmin(1))


def test_a_class_without_a_window_has_the_others_mean_as_prototype():
    model = dict(networks())["pooled"].eval()
    said: list[str] = []
    set_prototypes(model, windows([0, 1, 0, 1]), windows([0, 1, 2] * 9, seed=1), prior=0.0, say=said.append)
    assert said == ["prototypes: no window of class 2; the others' mean stands for it"]
    weight, bias = last_layer(model).weight, last_layer(model).bias
    assert weight[2].abs().sum() > 0 and weight[3].abs().sum() == 0
    assert isinstance(bias, torch.Tensor) and bias[3] < -1e5  # nobody has class 3


def test_normalise_makes_the_statistics_those_of_the_windows_and_changes_no_other_weight():
    model = dict(networks())["medium"].eval()
    own = windows([0, 1, 2, 3] * 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    normalise(model, own)  # type: ignore[arg-type]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {
        "mean",
        "std",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert torch.allclose(model.mean[:, 0], own.x.all().mean((0, 2)), atol=1e-6)  # type: ignore[operator,index]
    seen = model.network.stem[0]((own.x.all() - model.mean) / model.std)  # type: ignore[operator,index,union-attr]
    assert torch.allclose(model.network.stem[1].running_mean, seen.mean((0, 2)), atol=1e-5)  # type: ignore[index,union-attr]


def test_shots_are_nested_seeded_and_of_every_class():
    own = windows([0] * 9 + [1] * 5 + [2] * 2)
    taken = {shots: {tuple(row) for row in take_shots(own, shots, 3).x.all()[:, 0, :2].tolist()} for shots in (1, 2, 5)}
    assert taken[1] < taken[2] < taken[5]
    assert torch.bincount(take_shots(own, 1, 3).y).tolist() == [1, 1, 1]
    assert torch.bincount(take_shots(own, 5, 3).y).tolist() == [5, 5, 2]
    others = {tuple(row) for row in take_shots(own, 2, 4).x.all()[:, 0, :2].tolist()}
    assert others != taken[2]


def test_a_class_with_too_few_windows_is_said(project):
    for file in Path("d").glob("ann_train.pt"):
        x, y = torch.load(file, weights_only=True)
        torch.save((x[y != 2], y[y != 2]), file)
    study = STUDY | {"finetune": {"mode": "prototypes", "target_shots": 5}}
    (base,), (one,) = plan(**study).bases.values(), plan(**study).experiments.values()
    said: list[str] = []
    job = replace(job_of(one, ".rootstock/store"), say=said.append)
    assert base.hash in {folder.name for folder in Path(".rootstock/store").iterdir()}
    metrics = train(job).described()["metrics"]
    assert any("target_shots: ann has fewer than 5 training windows: 0 of class 2" in line for line in said)
    assert metrics["n_target_train"] == 10


def test_better_is_more_right_or_as_many_with_less_loss():
    base = {"accuracy": 0.9, "loss": 0.3}
    assert is_better({"accuracy": 0.95, "loss": 0.5}, base)
    assert is_better({"accuracy": 0.9, "loss": 0.2}, base)
    assert not is_better(base, base)
    assert not is_better({"accuracy": 0.85, "loss": 0.1}, base)


@pytest.mark.parametrize("mode", ["full_fine_tuning", *UPDATES])
def test_the_base_model_is_kept_where_nothing_was_gained(project, mode):
    spoiled = {"lr": 0.5, "max_epochs": 1} if mode not in ("prototypes", "normalise") else {}
    if not spoiled:  # a person whose windows say nothing: labels of another order
        for file in Path("d").glob("ann_train.pt"):
            x, y = torch.load(file, weights_only=True)
            torch.save((100 * x.roll(1, 0) + 50, (y + 1) % 3), file)
    study = STUDY | {"finetune": {"mode": mode, "keep_base_if_worse": True} | spoiled}
    (one,) = plan(**study).experiments.values()
    kept = train(job_of(one, ".rootstock/store"))
    kept.publish_experiment(Path("experiments/kept/ann"))
    metrics = kept.described()["metrics"]
    assert metrics["kept_base"] and metrics["test"] == metrics["base_test"]
    assert metrics["before_keeping"]["val"] != metrics["val"]
    base = load(Path(f"base_models/{one.base}.pt"))["model"]
    model = load_model("experiments/kept/ann/best_model.pt")
    assert all(torch.equal(weights, base[name]) for name, weights in model.state_dict().items())


@pytest.mark.parametrize("mode", ["full_fine_tuning", "target_only_fine_tuning", "last_layer_only", "adapters"])
def test_a_result_lies_between_the_base_model_and_the_fine_tune(project, mode):
    models, metrics = [], []
    for share in (0.0, 0.25):
        (one,) = plan(**STUDY | {"finetune": {"mode": mode, "max_epochs": 3, "base_share": share}}).experiments.values()
        kept = train(job_of(one, ".rootstock/store"))
        kept.publish_experiment(Path(f"experiments/mixed{share}/ann"))
        models.append(load_model(f"experiments/mixed{share}/ann/best_model.pt"))
        metrics.append(kept.described()["metrics"])
    base = load(Path(f"base_models/{one.base}.pt"))["model"]
    tuned, mixed = (model.state_dict() for model in models)
    assert any(not torch.equal(mixed[name], tuned[name]) for name in base)
    assert all(torch.allclose(mixed[name], 0.25 * base[name] + 0.75 * tuned[name], atol=1e-6) for name in base)
    assert metrics[0]["val"]["loss"] != metrics[1]["val"]["loss"]
    val, test = (read_people("d", ("ann",), (part,)) for part in ("val", "test"))
    for part, name in ((val, "val"), (test, "test")):  # what is measured is the model that is kept
        right = (models[1].eval()(part.x.all()).argmax(1) == part.y).float().mean().item()
        assert right == pytest.approx(metrics[1][name]["accuracy"])


@pytest.mark.parametrize(
    ("finetune", "line"),
    [
        ({"mode": "prototypes", "base_share": 0.5}, "base_share: 0.5 is for modes that take steps from a base model"),
        ({"mode": "last_layer_only", "rank": 2}, "finetune.rank: 2 is for mode adapters, not last_layer_only"),
        ({"mode": "adapters", "prototype_prior": 2}, "finetune.prototype_prior: 2.0 is for mode prototypes"),
        ({"target_shots": 2, "target_data_pct": 0.5}, "finetune.target_shots: 2 stands beside target_data_pct"),
        ({"mode": "target_only", "keep_base_if_worse": True}, "keep_base_if_worse: true needs a fine-tune of a base"),
        (
            {"mode": "adapters", "keep_base_if_worse": True, "early_stopping_metric": "last"},
            "keep_base_if_worse: true has nothing to judge by",
        ),
        ({"mode": "adapters", "rank": 0}, "finetune.rank"),
        (
            {"mode": "prototypes", "target_batch_pct": 0.5},
            "target_batch_pct: 0.5 is for full_fine_tuning, adapters and",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_told(project, finetune, line):
    with pytest.raises(StudyError, match=line):
        plan(**STUDY | {"finetune": finetune})


def test_adapters_go_on_from_a_checkpoint_to_the_same_bits(project):
    again, one = Project.__new__(Project), experiment_of("adapters")
    again.folder = project
    flags = (
        "--spec",
        one.json,
        "--data_path",
        one.data,
        "--base",
        f"base_models/{one.base}.pt",
        "--output",
        "experiments/x/y",
    )
    wanted, whole = of_mode("adapters").read_bytes(), load_model(of_mode("adapters"))
    again.here("train_finetune", *flags, "--store", "again", "--keep_checkpoints", "2")
    assert Path(f"again/{one.hash}/model.pt").read_bytes() == wanted
    checkpoint = Path(f"again/{one.hash}/checkpoint_step_2.pt")
    x = read_people("d", ("ann",), ("test",)).x.all()
    assert not torch.equal(load_model(checkpoint, "again")(x), whole(x))  # it has all weights
    again.here("train_finetune", *flags, "--store", "third", "--start_from", str(checkpoint))
    assert Path(f"third/{one.hash}/model.pt").read_bytes() == wanted
