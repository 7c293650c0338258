"""Two controllers on one store or in one folder, and an orphan beside a rerun: each model is trained once, and all succeed."""

import json
import os
import signal
import subprocess
import time

import pytest
from conftest import Project
from forks import Forked
from test_kill import COUNTING, jobs_of, kill, results, start, steps, tiny_project

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("shared_store")]


@pytest.fixture(autouse=True)
def counting(monkeypatch) -> None:
    """Steps of every project are counted, in the file that ROOTSTOCK_STEPS names."""
    monkeypatch.setenv("PYTHONPATH", str(COUNTING))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Project:
    """The undisturbed study."""
    project = tiny_project(tmp_path_factory.mktemp("calm") / "project", "activity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(COUNTING))
        patch.setenv("ROOTSTOCK_STEPS", str(project / "steps"))
        project.snakemake("--configfile", "study.yaml")
    return project


def test_two_controllers_on_one_store_train_each_model_once(tmp_path, calm, monkeypatch):
    monkeypatch.setenv("ROOTSTOCK_STEPS", str(tmp_path / "steps"))
    store = tmp_path / "store"
    pair = [tiny_project(tmp_path / name, "activity") for name in ("one", "two")]
    for project in pair:
        (project / ".rootstock").mkdir()
        (project / ".rootstock/store").symlink_to(store)
    store.mkdir()
    controllers = [start(project) for project in pair]
    assert [controller.wait(300) for controller in controllers] == [0, 0], (pair[0] / "run.log").read_text()[-3000:]
    assert (tmp_path / "steps").stat().st_size == steps(calm)
    logs = "".join(log.read_text() for project in pair for log in project.folder.glob("logs/**/*.log"))
    assert logs.count("trained meanwhile") + logs.count("is in the store") == len(results(calm))
    for project in pair:
        assert results(project) == results(calm)


def test_two_studies_in_one_folder_share_a_base_though_the_first_is_killed(tmp_path, calm, monkeypatch):
    """The second waits for its turn; when the first is killed it goes on with what that left, and the first can run again."""
    project = tiny_project(tmp_path / "folder", "activity")
    monkeypatch.setenv("ROOTSTOCK_STEPS", str(project / "steps"))
    second = json.loads((project / "study.yaml").read_text())
    second["finetune"]["mode"] = second["finetune"]["mode"][0]
    project.study("second", second | {"study": "second"})
    first = start(project)
    wait_until(lambda: steps(project), first)
    other = start(project, ("--configfile", "second.yaml"))
    wait_until(lambda: "waiting for the run of study in this folder" in (project / "run.log").read_text(), other)
    assert first.poll() is None
    kill(first.pid)
    first.wait()
    assert other.wait(300) == 0, (project / "run.log").read_text()[-3000:]
    assert (project / "results/second/table.txt").exists() and not (project / "results/study/table.txt").exists()
    project.snakemake("--configfile", "study.yaml")  # without --unlock
    assert steps(project) == steps(calm) and results(project) == results(calm)


def test_an_orphan_beside_a_rerun_is_waited_for(tmp_path, calm, monkeypatch):
    project = tiny_project(tmp_path / "orphaned", "activity")
    monkeypatch.setenv("ROOTSTOCK_STEPS", str(project / "steps"))
    controller = start(project)
    wait_until(lambda: steps(project), controller)
    kill(controller.pid)
    controller.wait()
    orphans = jobs_of(project)  # and those that stand in for them
    for pid in orphans:
        os.kill(pid, signal.SIGSTOP)  # so that they are still there when the rerun comes to them
    rerun = start(project)
    said = wait_until(
        lambda: [log for log in project.folder.glob("logs/**/*.log") if "waiting for process" in log.read_text()], rerun
    )
    assert any(f"process {pid}" in log.read_text() for log in said for pid in orphans)
    for pid in orphans:
        os.kill(pid, signal.SIGCONT)
    try:
        assert rerun.wait(300) == 0, (project / "run.log").read_text()[-3000:]
    except subprocess.TimeoutExpired:
        kill(rerun.pid)
        raise
    assert steps(project) == steps(calm) and results(project) == results(calm)


def wait_until(reached, controller: "subprocess.Popen | Forked"):
    """What `reached` returns as soon as it is something, while a controller runs; at most a minute."""
    deadline = time.monotonic() + 60
    while not (found := reached()):
        assert time.monotonic() < deadline and controller.poll() is None
        time.sleep(0.01)
    return found
