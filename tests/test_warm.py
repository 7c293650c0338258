"""The warm process: jobs forked from it are those of a cold start, whoever is killed, and whatever is unusual is done cold."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, WARM_ROOT, Project, end_warm, plan, prepared, warm_processes
from tiny import TINY

from rootstock.study import paths
from rootstock.study.identity import canonical
from rootstock.study.plan import Planned
from rootstock.study.run import Run
from rootstock.warm import client, place
from rootstock.warm.server import _is_safe_to_fork
from rootstock.warm.surroundings import rights_of, surroundings

QUICK = {"base": {"max_epochs": 2}, "finetune": {"max_epochs": 1}}
LONG = {"base": {"max_epochs": 5000}, "run": {"checkpoint_steps": 5}}


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory):
    """A folder for the warm processes of this module: other tests may have as many as there is room for."""
    root = tmp_path_factory.mktemp("warm") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WARM_ROOT, str(root))
        yield root
    end_warm(root)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    TINY["activity"].write(folder / "data/tiny")
    return Project(folder)


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    """A folder without a warm process; those that are started are ended."""
    root = tmp_path / "root"
    monkeypatch.setenv(WARM_ROOT, str(root))
    yield root
    end_warm(root)


def command(training: Planned, *flags: str, run: Run | None = None) -> list[str]:
    """The command of a training, as the rules give it."""
    is_base = training.spec.kind == "base"
    script, output = ("train_base", paths.base_model(training.hash)) if is_base else ("train_finetune", training.path)
    parts = ["--spec", training.json, "--data_path", training.data, "--expect", training.expect, "--asked_by", "t"]
    if not is_base:
        parts += ["--base", paths.base_model(training.base)]
    return [
        sys.executable, f"workflow/scripts/{script}.py", *parts, "--run", canonical(run or Run()), "--output", output, *flags
    ]  # fmt: skip


def planned_in(project, *more: dict, task: str = "activity"):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        return prepared(plan(**TINY[task].content(*more)))


def only(trainings: dict) -> Planned:
    (training,) = trainings.values()
    return training


def started(project, words: list[str], **more) -> subprocess.Popen:
    return subprocess.Popen(
        words, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(what, seconds: float = 60):
    """What is true at last."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


def one_that_trains(project, *flags: str, **more) -> tuple[subprocess.Popen, Path]:
    """A long training that has begun, and the folder of its checkpoints."""
    base = only(planned_in(project, LONG).bases)
    process = started(project, command(base, *flags, run=Run(checkpoint_steps=5)), **more)
    checkpoints = project / paths.STORE / base.hash / "checkpoints"
    until(lambda: process.poll() is not None or list(checkpoints.glob("*.json")))
    assert process.poll() is None, ended(process)
    return process, checkpoints


def stored(project) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (project / paths.STORE).glob("*/model.pt")}


@pytest.mark.parametrize("task", sorted(TINY))
def test_a_warm_training_has_the_bits_of_a_cold_one(tmp_path, task, root):
    found = {}
    for start in ("--no-warm", "--warm"):
        folder = tmp_path / start
        folder.mkdir()
        project = Project(folder)
        TINY[task].write(folder / "data/tiny")
        study = planned_in(project, task=task)
        for training in (*study.bases.values(), *study.experiments.values()):
            status, _, err = ended(started(project, command(training, start)))
            assert (status, err) == (0, "")
        found[start] = stored(project)
    assert len(found["--warm"]) == 2 and found["--warm"] == found["--no-warm"]
    assert warm_processes(root, "python")


PROBE = """
import json, logging, os, resource, signal, sys, threading
import numpy, random, torch

def prepare(spec, folder, run, say):
    descriptors = {number: os.readlink(f"/proc/self/fd/{number}") for number in range(20) if os.path.exists(f"/proc/self/fd/{number}")}
    seen = {
        "argv": sys.argv, "path": sys.path, "environment": dict(os.environ), "folder": os.getcwd(), "umask": os.umask(0o22),
        "nice": os.nice(0), "cpus": sorted(os.sched_getaffinity(0)), "flags": str(sys.flags), "main": sys.modules["__main__"].__file__,
        "limits": [resource.getrlimit(limit) for limit in range(16)],
        "signals": {number: str(signal.getsignal(number)) for number in sorted(signal.valid_signals())},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "leads": os.getpid() == os.getpgrp(),
        "threads": [thread.name for thread in threading.enumerate()], "torch_threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()), "drawn": [torch.rand(1).item(), numpy.random.rand(), random.random()],
        "handlers": len(logging.root.handlers), "level": logging.root.level,
        "streams": [(s.encoding, s.errors, s.line_buffering, s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "descriptors": {name: target for name, target in descriptors.items() if "pipe" not in target},
        "cuda": torch.cuda.is_initialized(), "deterministic": torch.get_deterministic_debug_mode(),
    }
    print(json.dumps(seen))
    print("said on stderr", file=sys.stderr)
    sys.exit(7)
"""


LOOK = """
import sys
import threading
def prepare(spec, folder, run, say):
    sys.exit(7 if "rootstock.engine.loop" in sys.modules else 8)
"""


def own_preparation(project, source: str) -> list[str]:
    """Flags that prepare the data of a user's own task, which does it by `source`."""
    TINY["own"].write(project / "data/tiny")
    (project / "curves/prepare.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        artefact = only(plan(**TINY["own"].study).artefacts)
    given = ["--spec", canonical(artefact.spec), "--output", paths.prepared(artefact.name)]
    return [*given, "--task", "curves.task:Curves"]


def test_a_task_of_a_users_own_finds_the_engine_loaded_from_its_first_job_on(project, own_root):
    words = own_preparation(project, LOOK)
    command = [sys.executable, "workflow/scripts/prepare_data.py", *words]
    assert [ended(started(project, [*command, start]))[0] for start in ("--no-warm", "--warm", "--warm")] == [8, 7, 7]


def test_a_classical_model_leaves_the_warm_process_fit_for_other_jobs(project, own_root):
    """What it loads begins a thread."""
    baseline = only(planned_in(project, {"baselines": ["extra_trees"], "folds": [0]}).baselines)
    measure = ["--spec", baseline.json, "--data_path", baseline.data, "--output", "rows.json", "--warm"]
    words = own_preparation(project, LOOK)
    for script, flags, status in (("measure_baseline", measure, 0), ("prepare_data", [*words, "--warm"], 7)):
        assert ended(started(project, [sys.executable, f"workflow/scripts/{script}.py", *flags]))[0] == status


def test_a_warm_job_inherits_what_a_cold_one_does(project, own_root):
    """A user's own task tells what it sees. It is changed between the jobs: nothing of a user's own is kept."""
    environment = os.environ | {"A_NAME_OF_ITS_OWN": "x"}
    base = only(planned_in(project, QUICK).bases)
    assert ended(started(project, command(base, "--warm"), env=environment))[0] == 0  # starts it, with other limits
    words = own_preparation(project, PROBE)
    seen, drawn = {}, []
    for start in ("--no-warm", "--warm", "--warm"):
        before = 'trap "" HUP; umask 027; ulimit -S -n 200; ulimit -S -c 0; exec nice -n 3 "$@"'
        script = ["bash", "-c", before, "bash", sys.executable, "workflow/scripts/prepare_data.py", *words, start]
        passing = {"TERM": start, "CUDA_VISIBLE_DEVICES": ""}
        status, out, err = ended(started(project, script, env=environment | passing, start_new_session=True))
        assert (status, err) == (7, "said on stderr\n"), err
        seen[start] = json.loads(out)
        drawn.append(seen[start].pop("drawn"))
        assert seen[start]["environment"].pop("TERM") == seen[start]["argv"].pop() == start
        (project / "curves/prepare.py").write_text(PROBE + "\n# changed\n")
    warm, cold = (seen[start].pop("environment") for start in ("--warm", "--no-warm"))
    assert cold.items() <= warm.items() and warm.keys() - cold.keys() <= {"TORCHINDUCTOR_CACHE_DIR"}
    assert seen["--warm"] == seen["--no-warm"]
    assert len(warm_processes(own_root, "python")) == 1
    assert len({number for numbers in drawn for number in numbers}) == 9  # whoever does not seed gets another each time


def test_a_mistake_is_told_as_by_a_cold_job(project):
    words = command(only(planned_in(project, QUICK).bases))
    for wrong in (["--lrr", "1"], ["--expect", "{"], ["--data_path", "data/none"]):
        cold, warm = (ended(started(project, [*words, *wrong, start])) for start in ("--no-warm", "--warm"))
        assert warm == cold and cold[0] == 1 and len(cold[2].splitlines()) == 1


def test_a_command_line_that_ends_python_ends_no_warm_process(project, own_root):
    words = command(only(planned_in(project, QUICK).bases))
    assert ended(started(project, [*words, "--warm"]))[0] == 0
    servers = warm_processes(own_root, "python")
    cold, warm = (ended(started(project, [*words, start, "--task"])) for start in ("--no-warm", "--warm"))
    assert warm == cold and cold[0] == 2
    assert warm_processes(own_root, "python") == servers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_client_is_one_to_the_job(project, number):
    process, checkpoints = one_that_trains(project, "--warm")
    process.send_signal(number)
    status, _, err = ended(process)
    assert status == 75 and "run again to resume from there" in err
    assert list(checkpoints.glob("*.json")) and not list(checkpoints.parent.glob("lock*"))


def test_a_signal_that_ends_a_job_ends_its_client(project):
    process, _ = one_that_trains(project, "--warm")
    process.send_signal(signal.SIGUSR2)
    assert ended(process)[0] == -signal.SIGUSR2


def jobs() -> list[int]:
    return warm_processes(Path(os.environ[WARM_ROOT]), "train_")


def test_a_killed_client_ends_its_job(project):
    process, _ = one_that_trains(project, "--warm")
    assert len(jobs()) == 1
    process.kill()
    process.wait()
    until(lambda: not jobs() and not warm_processes(Path(os.environ[WARM_ROOT]), "supervisor"))


def test_a_job_killed_from_outside_ends_its_client_the_same_way(project):
    process, _ = one_that_trains(project, "--warm")
    os.kill(*jobs(), signal.SIGKILL)
    assert ended(process)[0] == -signal.SIGKILL


def test_a_killed_warm_process_fails_no_job(project, own_root):
    process, _ = one_that_trains(project, "--warm")
    (server,) = warm_processes(own_root, "python")
    os.kill(server, signal.SIGKILL)
    until(lambda: not warm_processes(own_root, "python"))
    process.send_signal(signal.SIGTERM)  # still reaches it
    assert ended(process)[0] == 75
    base = only(planned_in(project, QUICK).bases)
    assert ended(started(project, command(base, "--warm")))[0] == 0  # in the place of the dead one's socket
    assert len(warm_processes(own_root, "python")) == 1


def test_a_job_of_a_killed_supervisor_is_done_cold(project, own_root):
    process, checkpoints = one_that_trains(project, "--warm")
    os.kill(*warm_processes(own_root, "supervisor"), signal.SIGKILL)
    until(lambda: not jobs())
    last = max(checkpoints.glob("*.json"))
    until(lambda: not last.exists() or max(checkpoints.glob("*.json")) != last)  # it goes on, in the client itself
    process.send_signal(signal.SIGTERM)
    status, out, _ = ended(process)
    assert status == 75 and "resum" in out


def test_changed_code_is_never_served_by_what_was_loaded_before(project, own_root):
    (project / "workflow").unlink()
    shutil.copytree(ROOT / "workflow", project / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    base = only(planned_in(project, QUICK).bases)
    assert ended(started(project, command(base, "--warm")))[0] == 0
    (server,) = warm_processes(own_root, "python")
    changed = project / "workflow/scripts/rootstock/job/train.py"
    changed.write_text(changed.read_text().replace("is in the store; nothing to train", "is there, says other code"))
    assert "says other code" in ended(started(project, command(base, "--warm")))[1]
    until(lambda: server not in warm_processes(own_root))
    assert "says other code" in ended(started(project, command(base, "--warm")))[1]
    assert len(warm_processes(own_root, "python")) == 1


@pytest.mark.parametrize("how", ["open", "link", "file"])
def test_a_folder_that_others_may_have_been_in_is_refused(project, own_root, how):
    real = own_root.with_name("real")
    real.mkdir(mode=0o700)
    if how == "open":
        own_root.mkdir()
        own_root.chmod(0o755)
    elif how == "link":
        own_root.symlink_to(real)
    else:
        own_root.write_text("")
    base = only(planned_in(project, QUICK).bases)
    status, out, err = ended(started(project, command(base, "--warm")))
    assert status == 0 and base.hash in out and err.startswith(f"not started warm: {own_root}: ")
    assert not warm_processes(own_root) and not list(real.iterdir())


def test_many_that_start_at_once_start_one_in_a_deep_folder(project, tmp_path, monkeypatch):
    root = tmp_path / "deep" / ("x" * 120) / "root"
    root.parent.mkdir(parents=True)
    monkeypatch.setenv(WARM_ROOT, str(root))
    bases = planned_in(project, QUICK, {"base": {"lr": [0.01, 0.02, 0.03]}}).bases.values()
    for process in [started(project, command(base, "--warm")) for base in bases]:
        assert ended(process)[0] == 0
    (server,) = warm_processes(root, "python")
    os.kill(server, signal.SIGKILL)
    (found,) = root.glob("*.socket")
    assert found.stat().st_mode & 0o777 == 0o600 and root.stat().st_mode & 0o777 == 0o700


def test_it_ends_when_idle_and_takes_its_socket_with_it(project, own_root, monkeypatch):
    monkeypatch.setenv("ROOTSTOCK_WARM_SECONDS", "0.3")
    assert ended(started(project, command(only(planned_in(project, QUICK).bases), "--warm")))[0] == 0
    until(lambda: not warm_processes(own_root))
    assert [file.name for file in own_root.iterdir()] == ["lock"]


def test_it_is_not_used_where_it_is_not_wanted(project, own_root):
    base = only(planned_in(project, QUICK).bases)
    for flags, more in (((), {}), (("--warm", "--no-warm"), {}), (("--warm",), {"SLURM_JOB_ID": "7"})):
        assert ended(started(project, command(base, *flags), env=os.environ | more))[0] == 0
    assert not own_root.exists()


def test_a_study_can_do_without_it(project, own_root):
    study = project.study("study", TINY["activity"].content(QUICK, {"run": {"warm": False}}))
    project.snakemake("--configfile", study, "--until", "train_base")
    assert not own_root.exists()
    study = project.study("study", TINY["activity"].content(QUICK))
    project.snakemake("--configfile", study, "--until", "train_finetune")
    assert len(warm_processes(own_root, "python")) == 1


def test_one_has_no_threads_before_the_fork(project, own_root):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    base = only(planned_in(project, QUICK).bases)
    assert ended(started(project, command(base, "--warm"), env=environment))[0] == 0
    (server,) = warm_processes(own_root, "python")
    assert len(os.listdir(f"/proc/{server}/task")) == 1


def test_there_is_room_for_a_few_only(own_root, tmp_path):
    with place.entered() as folder, place.locked(folder):
        held = [place.listening(folder, f"{number:08x}") for number in range(place.ROOM)]
        assert all(held) and place.listening(folder, "ffffffff") is None
        held.pop().close()  # killed
        with place.listening(folder, "ffffffff"):
            assert len(list(own_root.glob("*.socket"))) == place.ROOM
    for one in held:
        one.close()


def test_no_answer_is_a_cold_start(monkeypatch):
    monkeypatch.setattr(client, "BEGIN_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client._stand_in(ours, {"surroundings": ""})  # returns
    with ours:
        client._stand_in(ours, {"surroundings": ""})


def test_another_variable_is_another_warm_process(monkeypatch):
    before = surroundings()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert surroundings() == before
    for name in ("OMP_NUM_THREADS", "SLURM_JOB_ID", "NOBODY_KNOWS_IT"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "3")
            assert surroundings() != before


def test_killed_in_the_middle_of_twenty_it_costs_none(project, own_root):
    tunes = [
        {"finetune": {"max_epochs": 1, "lr": [0.001 * number for number in range(1, 21)]}},
        QUICK | {"finetune": {}},
    ]
    planned = planned_in(project, *tunes)
    assert ended(started(project, command(only(planned.bases), "--warm")))[0] == 0
    words = [command(tuned, "--warm") for tuned in planned.experiments.values()]
    running = [started(project, one) for one in words[:10]]
    until(lambda: list(project.folder.glob("experiments/*/*/metrics.json")))
    for server in warm_processes(own_root, "python"):  # it alone: those that run go on
        os.kill(server, signal.SIGKILL)
    running += [started(project, one) for one in words[10:]]
    assert [ended(process)[0] for process in running] == [0] * 20 and len(stored(project)) == 21


def test_in_slurm_it_ends_with_the_allocation_that_asked_for_it(project, own_root):
    task = subprocess.Popen(["sleep", "100"])
    slurm = {"SLURM_JOB_ID": "7", "SLURM_TASK_PID": str(task.pid), "ROOTSTOCK_WARM_IN_SLURM": "1"}
    base = only(planned_in(project, QUICK).bases)
    assert ended(started(project, command(base, "--warm"), env=os.environ | slurm))[0] == 0
    assert len(warm_processes(own_root, "python")) == 1
    task.kill()
    task.wait()
    until(lambda: not warm_processes(own_root))


def test_what_a_client_may_is_asked_of_the_kernel():
    """It could say anything; who was given fewer rights gets no others by a process that has them."""
    no_new_rights = lambda: ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # noqa: E731 (PR_SET_NO_NEW_PRIVS)
    for change, same in ((None, True), (no_new_rights, False), (lambda: os.sched_setaffinity(0, {0}), False)):
        process = subprocess.Popen(["sleep", "100"], preexec_fn=change)
        assert (rights_of(process.pid) == rights_of("self")) is same
        process.kill()
        process.wait()


def test_a_supervisor_outlives_the_signals_that_slurm_sends_to_all(project, own_root):
    process, checkpoints = one_that_trains(project, "--warm")
    for pid in warm_processes(own_root, "supervisor") + warm_processes(own_root, "train_base"):
        os.kill(pid, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    status, out, _ = ended(process)
    assert status == 75 and "resum" not in out and list(checkpoints.glob("*.json"))


@pytest.mark.parametrize("start", ["--no-warm", "--warm"])
def test_told_to_stop_again_and_again_it_still_ends_as_one_that_resumes(project, start):
    process, checkpoints = one_that_trains(project, start)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    status, _, err = ended(process)
    assert status == 75 and "run again to resume" in err and list(checkpoints.glob("*.json"))


def test_a_process_with_another_thread_is_not_forked():
    """The copy would lack it, and wait for ever for what it holds."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    try:
        assert not _is_safe_to_fork()
    finally:
        over.set()
        other.join()
