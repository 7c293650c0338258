"""A training's numbers reach a tracker, or wait for it; the training is the same either way."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import job_of, plan, write_people

from rootstock.engine import tracker
from rootstock.engine.files import load
from rootstock.engine.tracker import Tracker, require_tracker
from rootstock.job.train import train
from rootstock.store.objects import StoredObject
from rootstock.study.problems import Refusal
from rootstock.study.run import Run

STUDY = {"data": {"path": "data/tiny"}, "folds": [0], "finetune": {}, "base": {"max_epochs": 3, "lr": 0.01}}


class Away(ConnectionError):
    pass


@pytest.fixture
def trackio(monkeypatch) -> SimpleNamespace:
    """A stand-in for the package: what it was told, and whether it is away."""
    fake = SimpleNamespace(runs=[], rows=[], finished=0, is_away=False)

    def log(numbers: dict, step: int) -> None:
        if fake.is_away:
            raise Away("no route\nto host")
        fake.rows.append((step, numbers))

    def finish() -> None:
        fake.finished += 1

    def init(**of_run) -> SimpleNamespace:
        fake.runs.append(of_run)
        return SimpleNamespace(log=log, finish=finish)

    fake.init = init
    monkeypatch.setitem(sys.modules, "trackio", fake)
    return fake


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains one and the same base in a store of its own each time; what is stored and what was said."""
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny")
    (base,) = plan(**STUDY).bases.values()

    def of(store: str, **run) -> tuple[StoredObject, list[str]]:
        said: list[str] = []
        job = replace(job_of(base, store, Run(**run)), say=said.append)
        return train(job), said

    return of


def test_a_training_is_a_run_with_spec_and_hash_and_each_evaluation_a_row(trained, trackio):
    kept, _ = trained("s", tracker="trackio")
    (run,) = trackio.runs
    assert (run["name"], run["resume"], run["project"]) == (kept.hash, "allow", "rootstock")
    assert (run["config"]["hash"], run["config"]["lr"], run["config"]["task"]) == (kept.hash, "0.01", "activity")
    assert [numbers["val/loss"] for _, numbers in trackio.rows] == [row["val_loss"] for row in kept.read()["history"]]
    assert trackio.finished == 1 and len({step for step, _ in trackio.rows}) == 3


def test_a_tracker_that_is_away_costs_no_training_and_no_row(trained, trackio):
    trackio.is_away = True
    kept, said = trained("s", tracker="trackio")
    assert [line for line in said if "trackio" in line] == [
        "trackio is away (Away: no route); the training continues, rows wait",
        "trackio: 3 rows were not sent; the training's metadata.json has them",
    ]
    plain, _ = trained("other")
    ours, theirs = (load(one.model)["model"] for one in (kept, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and len(kept.read()["history"]) == 3


def test_rows_of_a_tracker_that_comes_back_are_sent_in_their_order(trackio, monkeypatch):
    monkeypatch.setattr(tracker, "PAUSE_SECONDS", 0)
    said: list[str] = []
    one = Tracker("trackio", "a" * 16, {"lr": 1, "model": {"width": 2}}, said.append)
    trackio.is_away = True
    one.add(1, {"loss": 3.0})
    one.add(2, {"loss": 2.0})
    trackio.is_away = False
    one.add(3, {"loss": 1.0})
    one.close()
    assert trackio.rows == [(1, {"loss": 3.0}), (2, {"loss": 2.0}), (3, {"loss": 1.0})] and len(said) == 1
    assert trackio.runs[-1]["config"]["model.width"] == "2"


def test_mlflow_has_the_run_and_goes_on_in_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow or mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    for step in (1, 2):  # as interrupted and resumed
        one = Tracker("mlflow", "b" * 16, {"lr": 0.5}, pytest.fail)
        one.add(step, {"val/loss": 1.0 / step})
        one.close()
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("rootstock").experiment_id])
    assert found.data.params == {"hash": "b" * 16, "lr": "0.5"} and found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "val/loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5)]


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(tracker, "find_spec", lambda _: None)
    require_tracker(None)
    with pytest.raises(Refusal, match=r"run\.tracker: wandb needs a package: \.venv/bin/pip install wandb"):
        require_tracker("wandb")
