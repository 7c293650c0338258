"""A real Slurm on this machine: one controller, three nodes of two GPUs each. What runs there, and what survives there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PEOPLE, ROOT, Project, write_people
from slurm_cluster import Cluster, missing_programs, until

from rootstock.controller.planning import plan_content

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}"),
]

# Each has a cluster of its own, for they wait more than they compute.
FIRST, SECOND, THIRD = (pytest.mark.xdist_group(f"slurm_{number}") for number in (1, 2, 3))

LONG = {  # a base training with many checkpoints, to be met in the middle
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "folds": [0],
    "base": {"max_epochs": 120, "lr": 0.01, "batch_size": 8, "dropout": 0.2},
    "run": {"checkpoint_steps": 40},
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Cluster]:
    """The cluster of this module's tests. It leaves no process."""
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start(KillWait="10", SlurmdTimeout="8", AuthInfo=f"socket={cluster.layout.munge_socket},cred_expire=5")
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

    def hold(self, name: str, after: str | None = None) -> str:
        """Wait until a training has a new checkpoint, by another job than `after`, and hold it there; its job."""
        until(lambda: self.cluster.running(name) not in (None, after), f"a job of {name}", self.cluster.describe, 120)
        job, before = self.cluster.running(name), self.checkpoints(name)
        until(lambda: self.checkpoints(name)[-1:] > before[-1:], f"a checkpoint of {name}", self.cluster.describe, 120)
        self.cluster.signal_training(job, signal.SIGSTOP)
        return job

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


@SECOND
def test_quick_test_gives_the_weights_of_this_process_and_uses_every_gpu_of_every_node(on_slurm, project):
    on_slurm.slurm("--configfile", "config/studies/quick_test.yaml", "--group-components", "finetunes=1")
    here = project.train_here(yaml.safe_load((ROOT / "config/studies/quick_test.yaml").read_text()))
    assert len(here) == 18 and on_slurm.models() == here

    log = on_slurm.run_log("quick_test")
    trained = [job for job in log["results"] if job["phase"] in ("base", "finetune")]
    assert log["successful_jobs"] == log["total_jobs"] == 21 and log["failed_jobs"] == 0 and len(trained) == 18
    gpus = sorted(log["gpus"])
    assert [gpu.partition("@")[2] for gpu in gpus] == [f"n{node}:gpu{gpu}" for node in (1, 2, 3) for gpu in (0, 1)]
    assert 0 < log["gpu_utilization_percent"] <= 100
    for gpu in gpus:
        spans = sorted((job["start_time"], job["end_time"]) for job in trained if job["gpu"] == gpu)
        times = [tuple(map(datetime.fromisoformat, span)) for span in spans]
        assert all(before[1] <= after[0] for before, after in pairwise(times)), gpu


@SECOND
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
    (job,) = (job for job in tiny.run_log("wide")["results"] if job["phase"] == "base")
    assert job["gpu"].count(":gpu0") == 1 == job["gpu"].count(":gpu1")  # of the first node


@THIRD
def test_a_job_without_gpus_sees_none(slurm):
    """Nothing but the variable holds a job back here, as on a cluster without cgroups; the login shell's is not trusted."""
    code = (
        "import os; from rootstock.job.gpus import granted_gpus\n"
        "with granted_gpus(None, 'auto', print) as gpus: print(gpus, repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    environment = slurm.environment | {"PYTHONPATH": str(ROOT / "workflow/scripts"), "CUDA_VISIBLE_DEVICES": "5"}
    for flags, seen in (([], "[] ''"), (["--gpus=1"], "['0'] '0'"), (["--gpus=2", "-N1"], "['0', '1'] '0,1'")):
        command = ["srun", "-n1", *flags, sys.executable, "-c", code]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert told.stdout.strip() == seen, told.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, bytes]:
    """The models of the study LONG, run here without Slurm."""
    project = Project(tmp_path_factory.mktemp("undisturbed"))
    write_people(project / "data/tiny")
    return project.train_here(LONG)


def cancel(slurm: Cluster, job: str, node: str) -> None:
    slurm.run("scancel", job)


def end_its_time(slurm: Cluster, job: str, node: str) -> None:
    slurm.run("scontrol", "update", f"JobId={job}", "EndTime=now")  # looked at every 30 s


def lose_its_node(slurm: Cluster, job: str, node: str) -> None:
    slurm.kill_node(node)
    until(lambda: "down" in slurm.states()[node], "the node to be missed", slurm.describe, 60)
    slurm.start_node(node)


def preempt(slurm: Cluster, job: str, node: str) -> None:
    slurm.run("sbatch", "--partition=high", "--exclusive", "--nodes=3", "--wrap=sleep 1")


@FIRST
@pytest.mark.parametrize(
    ("fault", "states"),
    [
        (cancel, {"CANCELLED"}),
        (end_its_time, {"TIMEOUT", "FAILED"}),
        (lose_its_node, {"COMPLETED"}),  # these two start the same job again
        (preempt, {"COMPLETED"}),
    ],
)
def test_a_training_goes_on_after(fault, states, tiny, slurm, undisturbed):
    """From its checkpoint, to the same bits, and the study ends complete."""
    tiny.study("alone", LONG)
    (name,) = undisturbed
    run = tiny.start("--configfile", "alone.yaml")
    job = tiny.hold(name)
    met = tiny.checkpoints(name)[-1]
    fault(slurm, job, slurm.jobs()[job]["node"])
    tiny.finish(run)

    assert tiny.models() == undisturbed
    (metadata,) = tiny.metadata().values()
    assert 0 < metadata["trained_steps"] <= metadata["steps"] - met  # no step of the first part was trained again
    assert slurm.jobs()[job]["state"] in states
    assert (int(slurm.jobs()[job]["restarts"]) > 0) == (states == {"COMPLETED"})


@SECOND
def test_a_training_on_two_nodes_saves_itself_when_it_is_cancelled(tiny, slurm):
    """Slurm tells the workers of both nodes; no checkpoint but theirs is there to go on from."""
    tiny.study("wide", LONG | {"run": {"gpus": 1, "nodes": 2, "checkpoint_steps": None, "checkpoint_seconds": None}})
    plan = json.loads(tiny.script("generate_jobs", "--configfile", "wide.yaml", "--json").stdout)
    (name,) = plan["sharing"]
    log = tiny / f"logs/base/{name}.log"
    run = tiny.start("--configfile", "wide.yaml")
    until(lambda: log.exists() and "epoch 3/" in log.read_text(), "the third epoch", slurm.describe, 120)
    first = slurm.running(name)
    slurm.run("scancel", first)
    until(lambda: tiny.checkpoints(name) != [], "a checkpoint", slurm.describe)
    (met,) = tiny.checkpoints(name)
    tiny.finish(run)
    (metadata,) = tiny.metadata().values()
    assert slurm.jobs()[first]["state"] == "CANCELLED"
    assert met > 0 and metadata["trained_steps"] == metadata["steps"] - met


@SECOND
def test_killed_controllers_leave_no_second_writer(tiny, slurm):
    """Snakemake killed: its job is ended before a new one starts. slurmctld and slurmd killed: the job goes on."""
    tiny.study("alone", LONG)
    plan = json.loads(tiny.script("generate_jobs", "--configfile", "alone.yaml", "--json").stdout)
    (name,) = plan["sharing"]
    first = tiny.start("--configfile", "alone.yaml")
    orphan = tiny.hold(name)
    met = tiny.checkpoints(name)[-1]
    first.kill()
    first.wait(30)

    second = tiny.start("--configfile", "alone.yaml")
    job = tiny.hold(name, after=orphan)
    assert slurm.jobs()[orphan]["state"] == "CANCELLED"
    node = slurm.jobs()[job]["node"]
    time.sleep(6)  # slurmctld saves its state every 5 s at most; killed before, it would forget the job
    slurm.kill("slurmctld")
    slurm.kill(node)
    slurm.start_node(node)
    slurm.start_controller()
    until(lambda: slurm.running(name) == job, "slurmctld to know the job again", slurm.describe)
    slurm.signal_training(job, signal.SIGCONT)
    log = tiny.finish(second)
    assert f"cancelling 1 Slurm job(s) of an earlier run that was killed: {orphan}" in log
    (metadata,) = tiny.metadata().values()
    assert metadata["trained_steps"] <= metadata["steps"] - met


@FIRST
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


@THIRD
def test_a_fine_tune_that_fails_in_a_job_of_several_fails_alone(tiny, slurm):
    """The others of its Slurm job are published, and not trained again when it is tried once more."""
    x, y = torch.load(tiny / "data/tiny/bob_train.pt", weights_only=True)
    torch.save((x.fill_(torch.inf), y), tiny / "data/tiny/bob_train.pt")
    alone = {"mode": "target_only", "max_epochs": 1}
    tiny.study(
        "group", LONG | {"folds": "all", "base": {"max_epochs": 1}, "finetune": alone | {"seed_finetune": [0, 1]}}
    )
    log = tiny.finish(
        tiny.start("--configfile", "group.yaml", "--retries", "1", "--group-components", "finetunes=6"), status=1
    )
    assert submissions(tiny) == 2  # six fine-tunes, and the two that failed, once more
    done = {path.parts[-2] for path in tiny.folder.glob("experiments/*/*/metrics.json")}
    assert done == {"fold0_ann", "fold2_cleo"} and len(tiny.models()) == 4
    told = [line for line in log.splitlines() if line.startswith("failed: ")]
    assert len(told) == 2 and all("fold1_bob" in line for line in told)  # tried twice, and told once
    assert "4 done, 2 failed" in log and "submitted with" not in log
    failed = [job for job in tiny.run_log("group")["results"] if not job["success"]]
    assert len(failed) == 2 and {job["config"]["target"] for job in failed} == {"bob"}


def submissions(project: SlurmProject) -> int:
    """Jobs of the last run, as Snakemake's log tells them."""
    return max(project.folder.glob(".snakemake/log/*")).read_text().count("has been submitted with SLURM jobid")


@THIRD
def test_fine_tunes_of_one_slurm_job_go_on_after_it_was_cancelled(tiny, slurm, project):
    content = LONG | {"finetune": {"mode": "full_fine_tuning", "max_epochs": 120, "seed_finetune": [0, 1, 2]}}
    content["base"] = content["base"] | {"max_epochs": 1}
    tiny.study("group", content)
    write_people(project / "data/tiny")
    undisturbed = project.train_here(content)
    run = tiny.start("--configfile", "group.yaml")
    plan = json.loads(tiny.script("generate_jobs", "--configfile", "group.yaml", "--json").stdout)
    (base,) = plan["sharing"]
    tuned = sorted(set(undisturbed) - {base})
    until(lambda: any(map(tiny.checkpoints, tuned)), "a checkpoint of a fine-tune", slurm.describe, 120)
    (job,) = [job for job, about in slurm.jobs().items() if about["state"] == "RUNNING"]
    slurm.run("scancel", job)
    tiny.finish(run)
    assert tiny.models() == undisturbed


@THIRD
def test_several_fine_tunes_of_one_slurm_job_share_its_gpu(tiny, slurm):
    """Of four, two at a time: the job asks for one GPU, cores and memory of two, and the time of two after two others."""
    tunes = {"mode": "full_fine_tuning", "max_epochs": 120, "seed_finetune": [0, 1, 2, 3]}
    study = {"base": LONG["base"] | {"max_epochs": 1}, "finetune": tunes}
    tiny.study("shared", LONG | study | {"run": {"checkpoint_steps": 10, "trainings_per_gpu": 2, "gpus": 1}})
    plan = json.loads(tiny.script("generate_jobs", "--configfile", "shared.yaml", "--json").stdout)
    run = tiny.start("--configfile", "shared.yaml")
    (base,) = plan["sharing"]
    store = tiny / ".rootstock/store"

    def halfway() -> list[str]:
        return [path.parent.name for path in store.glob("*/checkpoints") if tiny.checkpoints(path.parent.name)]

    until(lambda: len(set(halfway()) - {base}) == 2, "two fine-tunes at a time", slurm.describe, 120)
    (job,) = [job for job, about in slurm.jobs().items() if about["state"] == "RUNNING"]
    shown = slurm.run("scontrol", "--oneliner", "show", "job", job)
    asked = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    of_one = plan_mem(tiny, "shared.yaml")
    assert (asked["TimeLimit"], asked["CPUs/Task"], asked["MinMemoryNode"]) == ("02:00:00", "2", f"{2 * of_one}M"), (
        asked
    )
    assert asked["NumNodes"] == "1" and asked["TresPerJob"] == "gres:gpu:1", asked
    tiny.finish(run)
    assert submissions(tiny) == 2 and len(tiny.models()) == 5


def plan_mem(project: SlurmProject, study: str) -> int:
    """MB that each fine-tune of a study asks for."""
    with contextlib.chdir(project.folder):
        (of_one,) = {one.mem_mb for one in plan_content(yaml.safe_load(Path(study).read_text())).experiments.values()}
    return of_one


@THIRD
def test_what_sbatch_refuses_is_said_of_a_job_of_several(tiny):
    tiny.study("large", LONG | {"base": {"max_epochs": 1}, "finetune": {"mode": "base_only"}, "folds": "all"})
    flags = ("--set-resources", "train_finetune:mem_mb=10000000", "--retries", "0", "--until", "train_finetune")
    log = tiny.finish(tiny.start("--configfile", "large.yaml", *flags), status=1)
    assert "SLURM sbatch failed. The error message was 'sbatch: error:" in log


@THIRD
def test_fine_tunes_of_a_base_do_not_share_a_job_with_those_of_another(tiny):
    """Where a base fails, the fine-tunes of the other one are trained all the same."""
    tunes = {"mode": "full_fine_tuning", "max_epochs": 1, "lr": 0.01, "seed_finetune": [0, 1]}
    tiny.study("two", LONG | {"base": {"max_epochs": 1, "lr": [0.01, 1e30]}, "finetune": tunes})
    tiny.finish(tiny.start("--configfile", "two.yaml", "--retries", "0"), status=1)
    assert submissions(tiny) == 3  # two bases, and the fine-tunes of one
    assert len(list(tiny.folder.glob("experiments/*/*/metrics.json"))) == 2
