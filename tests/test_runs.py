"""What a person sees of runs in one folder: whose turn it is, what failed and why, what is there all the same."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from conftest import ROOT, plan, write_people
from rich.console import Console

import status
from rootstock.controller.answer import answer, make_room
from rootstock.controller.missing import Missing, missing_of, told, without
from rootstock.controller.status import study_status
from rootstock.controller.turns import Turn, is_under_way, take_turn
from rootstock.study import paths
from rootstock.study.problems import Refusal

STUDY = {
    "data": {"path": "data/tiny"},
    "base": {"model": "test", "max_epochs": 1},
    "finetune": {"mode": "target_only_fine_tuning", "target_data_pct": 0.5},
}
BASE = {"study": "one", "written": frozenset({"base_models/a.pt"}), "read": frozenset({"prepared/x"})}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny")
    return tmp_path


@pytest.mark.parametrize(
    "other, collides",
    [
        (Turn("two", frozenset({"base_models/a.pt"}), frozenset()), True),
        (Turn("two", frozenset({"experiments/e"}), frozenset({"base_models/a.pt"})), True),
        (Turn("two", frozenset({"prepared/x"}), frozenset()), True),
        (Turn("two", frozenset({"base_models/b.pt"}), frozenset({"prepared/x"})), False),
        (Turn("one", frozenset(), frozenset()), True),
    ],
)
def test_only_runs_that_make_what_the_other_makes_or_reads_take_turns(here, other, collides):
    said, first = [], take_turn(Turn(**BASE), print)
    if collides:
        with pytest.raises(
            Refusal, match=f"run of one in this folder .process {os.getpid()} on .* takes longer than 0 s"
        ):
            take_turn(other, said.append, wait_seconds=0)

    def end_of_first(line: str) -> None:
        said.append(line)
        first.close()

    take_turn(other, end_of_first, poll_seconds=0).close()
    first.close()
    assert len(said) == collides and all(line.startswith("waiting for the run of one in this") for line in said)


def test_a_run_that_was_killed_is_not_waited_for(here):
    code = (
        "import os, signal, sys\n"
        "from rootstock.controller.turns import Turn, take_turn\n"
        "turn = take_turn(Turn('one', frozenset({'base_models/a.pt'}), frozenset()), print)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    assert subprocess.run([sys.executable, "-c", code], cwd=here, env=environment).returncode == -9
    assert (here / ".rootstock/runs/one.lock").exists() and not is_under_way("one")
    take_turn(Turn(**BASE), print, wait_seconds=0).close()


def test_without_a_run_nothing_waits(here):
    planned = plan(study="one", **STUDY)
    assert {job.state for job in study_status(planned)} == {"not begun"}
    base, *_ = study_status(planned)
    with take_turn(Turn("one", frozenset({paths.base_model(base.name)}), frozenset()), print):
        states = {job.name: job.state for job in study_status(planned)}
        assert states.pop(base.name) == "waiting" and set(states.values()) == {
            "not begun"
        }  # it makes no more than this
        assert all("waiting" not in item.why for item in missing_of(planned))  # asked for when the jobs have ended


def test_each_missing_experiment_has_the_reason_of_the_first_thing_that_failed(here):
    planned = plan(study="one", **STUDY, baselines=["svc"])
    failed = planned.experiments[next(iter(planned.experiments))]
    record = Path(f".rootstock/jobs/one/base/{failed.base}.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"started": 1.0, "ended": 2.0, "returncode": 1, "stderr": "one\nX holds NaN"}))
    missing = missing_of(planned)
    assert len(missing) == len(planned.experiments) + len(planned.baselines)
    assert [item.why for item in missing if item.who == failed.unit] == ["X holds NaN"]
    assert sum("is not begun" in item.why for item in missing) == len(planned.experiments) - 1
    assert told(missing, planned).startswith(
        f"partial: 0 of {len(planned.experiments)} experiments are there. Missing:\n"
    )
    assert f"  {failed.unit}: X holds NaN" in told(missing, planned)
    many = [Missing(f"fold{k}", f"path{k}", f"reason {k}" if k < 20 else "the same") for k in range(40)]
    lines = told(many[::-1], planned).splitlines()
    assert len(lines) == 10 and lines[1].endswith("and 12 more: the same")
    assert lines[-1] == "  and others for 13 more reasons; missing.csv has all"
    assert without(planned, missing[1:]).experiments.keys() == {(failed.prefix, failed.unit)}
    assert not without(planned, missing).baselines


def test_the_tables_of_a_larger_grid_are_kept(here):
    large, small = plan(**STUDY), plan(**STUDY, folds=[0])
    results, said = here / "results/t", []
    results.mkdir(parents=True)
    (results / "partial").mkdir()
    rows = "\n".join(experiment.path for experiment in large.experiments.values())
    (results / "summary.csv").write_text(f"path\n{rows}\n")
    (results / "table.txt").write_text("the large one")
    make_room(large, said.append)
    assert not said and {file.name for file in results.iterdir()} == {"summary.csv", "table.txt"}
    for _ in range(2):
        make_room(small, said.append)
    (older,) = results.glob("older_*")
    assert (older / "table.txt").read_text() == "the large one" and (older / "summary.csv").exists()
    assert said[0].startswith(f"note: results of {len(large.experiments)} experiments") and str(older.name) in said[0]


def test_a_table_of_what_others_wrote_commands_no_terminal(here):
    Path("results/tiny").mkdir(parents=True)
    Path("results/tiny/table.txt").write_text("a\x1b]0;title\x07  b\n\x9b2J\tä − 1\n", encoding="utf-8")
    shown = answer(plan(**STUDY, study="tiny"))
    assert shown.startswith("a?]0;title?  b\n?2J\tä − 1\n\nresults: results/tiny/")


def test_a_status_has_no_line_wider_than_the_terminal(here):
    planned = plan(study="a_study_of_a_rather_long_name", **STUDY)
    log = here / "job.log"
    log.write_text(f"{'epoch 12/100  train_loss 0.5  ' * 5}\n{'one word after the other ' * 6}the fix\n")
    record = {"user": "somebody", "host": "a-machine-of-a-long-name.example", "gpus": [0, 1, 2, 3], "started": 1.0}
    more = {"log": log, "record": record}
    jobs = [
        replace(job, state=("running", "failed", "waiting")[number % 3], **more)
        for number, job in enumerate(study_status(planned))
    ]

    def shown(width: int | None) -> list[str]:
        console = Console(width=width or 10_000, file=StringIO(), soft_wrap=True)
        console.print(status.view(planned.study.name, jobs, width))
        return [line.rstrip() for line in console.file.getvalue().splitlines()]

    for width in (80, 200):
        assert max(map(len, shown(width))) <= width
        text = " ".join(" ".join(shown(width)).split())
        assert all(job.name in text for job in jobs if job.state != "waiting") and "the fix" in text
    assert max(map(len, shown(None))) > 150  # on a pipe each line is whole
    assert any(line.startswith("running ") and "where" in line for line in shown(None))
    assert not any("where" in line for line in shown(80))


def test_a_moved_project_goes_on_and_keeps_its_data_out_of_git():
    called = re.findall(r"\$\(BIN\)/(\S+)", (ROOT / "Makefile").read_text())
    assert set(called) == {"python"}  # any other command in .venv/bin names the folder that it was made in
    assert "/data/" in (ROOT / ".gitignore").read_text().splitlines()
    assert paths.PARTIAL.startswith(paths.RESULTS)
