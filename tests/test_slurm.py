"""A real Slurm on this machine: one controller, three nodes of two GPUs each. What runs there, and what survives there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import PEOPLE, ROOT, Project, write_people
from slurm_cluster import Cluster, missing_programs, until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
]

LONG = {  # a base training of some seconds, which is met in the middle
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "folds": [0],
    "base": {"max_epochs": 160, "lr": 0.01, "batch_size": 8, "dropout": 0.2},
    "run": {"checkpoint_steps": 40},
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    """The cluster of this module's tests. It leaves no process."""
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start(KillWait="10", SlurmdTimeout="8", AuthInfo=f"socket={cluster.layout.munge_socket},cred_expire=3")
        yield cluster
    finally:
        cluster.stop()
    assert cluster.steps() == [] and all(process.poll() is not None for process in cluster.processes.values())


class SlurmProject(Project):
    """A project whose Snakemake submits to the cluster of the test."""

    def __init__(self, folder: Path, cluster: Cluster):
        super().__init__(folder)
        self.cluster = cluster
        self.runs: list[subprocess.Popen] = []

    def start(self, *flags: str, path: str = "") -> subprocess.Popen:
        """`snakemake --profile slurm`, in the background; its output goes to run.log."""
        command = [str(Path(sys.executable).parent / "snakemake"), "--profile", "slurm", "--latency-wait", "5", *flags]
        environment = {k: v for k, v in self.cluster.environment.items() if not k.startswith("SNAKEMAKE")}
        environment["PATH"] = path + environment["PATH"]
        with open(self / "run.log", "a") as log:
            run = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self.runs.append(run)
        return run

    def slurm(self, *flags: str, **options: str) -> str:
        """Run to the end; the output."""
        return self.finish(self.start(*flags, **options))

    def finish(self, run: subprocess.Popen, status: int = 0) -> str:
        ended = run.wait(240)
        log = (self / "run.log").read_text()
        assert ended == status, f"{log[-6000:]}\n{self.cluster.run('squeue', '--states=all')}"
        return log

    def metadata(self) -> dict[str, dict]:
        found = (self / ".rootstock/store").glob("*/metadata.json")
        return {path.parent.name: json.loads(path.read_text()) for path in found}

    def models(self) -> dict[str, bytes]:
        return {path.parent.name: path.read_bytes() for path in (self / ".rootstock/store").glob("*/model.pt")}

    def checkpoints(self, name: str) -> list[int]:
        """Steps of the checkpoints of a training, in order."""
        found = (self / ".rootstock/store" / name / "checkpoints").glob("step_*.json")
        return sorted(int(path.stem.removeprefix("step_")) for path in found)

    def run_log(self, study: str) -> dict:
        return json.loads((self / f"results/{study}/run_log.json").read_text())


@pytest.fixture
def on_slurm(tmp_path, slurm) -> Iterator[SlurmProject]:
    (tmp_path / "on slurm").mkdir()
    project = SlurmProject(tmp_path / "on slurm", slurm)
    yield project
    for run in project.runs:
        run.kill()
        run.wait(30)


@pytest.fixture
def tiny(on_slurm) -> SlurmProject:
    write_people(on_slurm / "data/tiny")
    return on_slurm


def test_quick_test_gives_the_weights_of_a_local_run_and_uses_every_gpu_of_every_node(on_slurm, project):
    on_slurm.slurm("--configfile", "config/studies/quick_test.yaml")
    project.snakemake("--configfile", "config/studies/quick_test.yaml")
    here = {path.parent.name: path.read_bytes() for path in (project / ".rootstock/store").glob("*/model.pt")}
    assert len(here) == 15 and on_slurm.models() == here  # base_only trains nothing of its own

    log = on_slurm.run_log("quick_test")
    trained = [job for job in log["results"] if job["phase"] in ("base", "finetune")]
    assert log["successful_jobs"] == log["total_jobs"] == 20 and log["failed_jobs"] == 0 and len(trained) == 18
    gpus = sorted(log["gpus"])
    assert [gpu.partition("@")[2] for gpu in gpus] == [f"n{node}:gpu{gpu}" for node in (1, 2, 3) for gpu in (0, 1)]
    assert 0 < log["gpu_utilization_percent"] <= 100
    for gpu in gpus:
        spans = sorted((job["start_time"], job["end_time"]) for job in trained if job["gpu"] == gpu)
        times = [tuple(map(datetime.fromisoformat, span)) for span in spans]
        assert all(before[1] <= after[0] for before, after in pairwise(times)), gpu


@pytest.mark.parametrize("nodes", [1, 2])
def test_several_processes_and_nodes_and_a_silent_sacct(tiny, tmp_path, nodes):
    """2 GPUs on one node start two processes, 2 nodes × 2 four; neither asks sacct, which never answers here."""
    (tmp_path / "bin").mkdir()
    for name in ("sacct", "sacctmgr", "sshare"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexec sleep 3600\n")
        (tmp_path / "bin" / name).chmod(0o755)
    tiny.study("wide", LONG | {"base": {"max_epochs": 2, "batch_size": 8}, "run": {"gpus": 2, "nodes": nodes}})
    tiny.slurm("--configfile", "wide.yaml", path=f"{tmp_path / 'bin'}{os.pathsep}")
    (metadata,) = tiny.metadata().values()
    log = (tiny / f"logs/base/{metadata['hash']}.log").read_text()
    assert metadata["run"]["world_size"] == 2 * nodes and f"{2 * nodes} process(es)" in log
    assert log.count("training ") == 1 == log.count("published ")  # each training is started once
    (job,) = tiny.run_log("wide")["results"]
    assert job["gpu"].count(":gpu0") == 1 == job["gpu"].count(":gpu1")  # of the first node


def test_a_job_without_gpus_sees_none(slurm):
    """Nothing but the variable holds a job back here, as on a cluster without cgroups; the login shell's is not trusted."""
    code = (
        "import os; from rootstock.gpus import granted_gpus\n"
        "with granted_gpus(None, 'auto', print) as gpus: print(gpus, repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    environment = slurm.environment | {"PYTHONPATH": str(ROOT / "workflow/scripts"), "CUDA_VISIBLE_DEVICES": "5"}
    for flags, seen in (([], "[] ''"), (["--gpus=1"], "['0'] '0'"), (["--gpus=2", "-N1"], "['0', '1'] '0,1'")):
        command = ["srun", "-n1", *flags, sys.executable, "-c", code]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert told.stdout.strip() == seen, told.stderr


def test_a_study_survives_what_slurm_does_to_its_jobs(tiny, slurm, tmp_path):
    """Cancelled, out of time, on a node that dies, preempted: each training goes on from its checkpoint, to the same bits."""
    study = LONG | {"base": LONG["base"] | {"seed": [0, 1, 2, 3]}}
    tiny.study("faults", study)
    (tmp_path / "calm").mkdir()
    calm = Project(tmp_path / "calm")
    write_people(calm / "data/tiny")
    calm.study("faults", study)

    run = tiny.start("--configfile", "faults.yaml")
    plan = json.loads(calm.script("generate_jobs", "--configfile", "faults.yaml", "--json").stdout)
    names = list(plan["sharing"])
    jobs = {}
    for name in names:
        until(lambda name=name: tiny.checkpoints(name), f"a checkpoint of {name}", slurm.describe, 120)
        jobs[name] = slurm.running(name)
    met = {name: tiny.checkpoints(name)[-1] for name in names}
    cancelled, late, *others = names
    slurm.run("scancel", jobs[cancelled])
    slurm.run("scontrol", "update", f"JobId={jobs[late]}", "EndTime=now")
    node = slurm.jobs()[jobs[others[0]]]["node"]
    slurm.kill_node(node)
    until(lambda: "down" in slurm.states()[node], "the node to be missed", slurm.describe, 60)
    slurm.start_node(node)
    until(lambda: "idle" in slurm.states()[node] or "mix" in slurm.states()[node], "the node to be back", seconds=60)
    slurm.run("sbatch", "--partition=high", "--exclusive", "--nodes=3", "--wrap=sleep 2")
    calm.snakemake("--configfile", "faults.yaml")
    tiny.finish(run)

    assert tiny.models() == {p.parent.name: p.read_bytes() for p in (calm / ".rootstock/store").glob("*/model.pt")}
    for name, metadata in tiny.metadata().items():
        assert metadata["trained_steps"] <= metadata["steps"] - met[name], name  # nothing was trained twice
    states = {job: entry["state"] for job, entry in slurm.jobs().items()}
    assert states[jobs[cancelled]] == "CANCELLED" and states[jobs[late]] in ("TIMEOUT", "FAILED")
    assert int(slurm.jobs()[jobs[others[0]]]["restarts"]) >= 1


def test_killed_controllers_leave_no_second_writer(tiny, slurm):
    """Snakemake killed: its job is ended before a new one starts. slurmctld and slurmd killed: the job goes on."""
    tiny.study("alone", LONG)
    first = tiny.start("--configfile", "alone.yaml")
    until(lambda: list((tiny / ".rootstock/store").glob("*/checkpoints/*.json")), "a checkpoint", slurm.describe, 120)
    first.kill()
    first.wait(30)
    (name,) = (path.name for path in (tiny / ".rootstock/store").iterdir())
    orphan, met = slurm.running(name), tiny.checkpoints(name)[-1]
    assert orphan is not None
    tiny.slurm("--unlock", "--configfile", "alone.yaml")

    second = tiny.start("--configfile", "alone.yaml")
    until(lambda: slurm.running(name) not in (None, orphan), "the job of the second run", slurm.describe, 120)
    assert slurm.jobs()[orphan]["state"] == "CANCELLED"
    node = slurm.jobs()[slurm.running(name)]["node"]
    slurm.kill("slurmctld")
    slurm.kill(node)
    slurm.start_node(node)
    slurm.start_controller()
    log = tiny.finish(second)
    assert f"cancelling 1 Slurm job(s) of an earlier run that was killed: {orphan}" in log
    (metadata,) = tiny.metadata().values()
    assert metadata["trained_steps"] <= metadata["steps"] - met


def test_a_failure_fails_the_run_and_is_in_the_run_log(tiny):
    tiny.study("broken", LONG | {"base": {"max_epochs": 1, "lr": 1e30}})
    tiny.finish(tiny.start("--configfile", "broken.yaml", "--retries", "0"), status=1)
    log = tiny.run_log("broken")
    (job,) = log["results"]
    assert (log["total_jobs"], log["successful_jobs"], log["failed_jobs"]) == (1, 0, 1)
    assert job["success"] is False and job["returncode"] == 1 and "training diverged" in job["stderr"]
    assert job["config"]["lr"] == 1e30 and job["gpu"].partition("@")[2].startswith("n")
    shown = tiny.script("status", "--configfile", "broken.yaml").stdout
    assert "1 failed of 1" in shown and "training diverged" in shown
