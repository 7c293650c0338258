"""What others left in a project or store, or a user's workflow gives a module, is told in a line or passed over; it is no bug."""

import datetime
import json
from pathlib import Path

import pytest
from conftest import plan
from made_results import publish

from rootstock.controller.answer import answer, make_room
from rootstock.controller.evidence import sharing_of
from rootstock.controller.missing import is_published
from rootstock.controller.planning import plan_of_module
from rootstock.controller.rows import VARIABLE, kept_rows
from rootstock.results.histories import History, history_of_base
from rootstock.results.summary import summary_of
from rootstock.study import paths
from rootstock.study.problems import Refusal

HUGE = 10**400  # an integer that is no float


@pytest.mark.parametrize(
    "config", [{"description": datetime.date(2026, 1, 1)}, {"data": {1, 2}}, {(1, 2): 3}, [1], None]
)
def test_a_config_of_a_module_that_is_no_study_is_one_line(config, capsys):
    with pytest.raises(SystemExit):
        plan_of_module("mine", config)
    told = capsys.readouterr().err
    assert told.startswith("module mine: config: ")
    assert told.count("\n") == 1 and "bug" not in told


def test_kept_rows_that_are_no_database_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "odd.sqlite").write_text("odd" * 2000)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "odd.sqlite"))
    assert kept_rows() is None


def test_metrics_that_nest_deeply_are_no_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = next(iter(plan(finetune={"max_epochs": 1}).experiments.values()))
    Path(experiment.path).mkdir(parents=True)
    (Path(experiment.path) / "metrics.json").write_text("[" * 200_000 + "]" * 200_000)
    assert not is_published(experiment)


@pytest.mark.parametrize("odd", [{"best_epoch": float("inf")}, {"history": [{"epoch": 1, "val_loss": HUGE}]}])
def test_a_history_with_numbers_of_no_measure_is_none(tmp_path, monkeypatch, odd):
    monkeypatch.chdir(tmp_path)
    file = Path(paths.BASE_METADATA.format(hash="a" * 16))
    file.parent.mkdir()
    file.write_text(json.dumps({"history": [{"epoch": 1, "val_loss": 1.0}], "best_epoch": 1} | odd))
    assert len(history_of_base("a" * 16)) == len(History())


def test_seconds_of_hundreds_of_digits_are_not_recorded():
    planned = plan()
    assert sharing_of(planned, {name: {"seconds": HUGE} for name in planned.bases}).recorded == 0


@pytest.mark.parametrize(
    "odd", [{"epochs": [1]}, {"epochs": 10**25}, *({"metrics": {"n_target_train": value}} for value in ({}, "many"))]
)
def test_metrics_that_no_table_can_show_are_refused_with_their_file(tmp_path, monkeypatch, odd):
    monkeypatch.chdir(tmp_path)
    planned = plan(finetune={"max_epochs": 1})
    publish(planned, lambda _: {"n_target_train": 1})
    file = Path(next(iter(planned.experiments.values())).path) / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | odd))
    with pytest.raises(Refusal, match=r"metrics.json: cannot be read .*; delete the folder and run again"):
        summary_of(planned, planned.study.task.reporter().result_columns)


@pytest.mark.parametrize("content", [b"path\n\xff\n", b"path\n" + b"a" * 200_000])
def test_a_damaged_summary_is_kept_as_that_of_another_study(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    planned, said = plan(), []
    summary = Path(paths.SUMMARY.format(study=planned.study.name))
    summary.parent.mkdir(parents=True)
    summary.write_bytes(content)
    make_room(planned, said.append)
    assert len(said) == 1
    assert [file.read_bytes() for file in summary.parent.glob("older_*/summary.csv")] == [content]


def test_a_damaged_table_is_shown_as_it_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan()
    table = Path(paths.TABLE.format(study=planned.study.name))
    table.parent.mkdir(parents=True)
    table.write_bytes(b"a\xffb")
    assert "a\N{REPLACEMENT CHARACTER}b" in answer(planned)
