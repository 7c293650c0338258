"""A list of SSH servers becomes a Slurm cluster: the configuration's faults, and two servers that share nothing but SSH."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import servers
from conftest import PEOPLE, ROOT, Project, write_people
from slurm_cluster import missing_programs, until

from rootstock.cluster import cluster, packages
from rootstock.cluster.config import ClusterConfig, Server, read_cluster_config
from rootstock.cluster.probe import Probe
from rootstock.cluster.slurm_files import Layout
from rootstock.cluster.ssh import command_on
from rootstock.job.node_cache import make_room, on_this_node
from rootstock.study.problems import StudyError


def faults(tmp_path, *entries, **more) -> list[str]:
    (tmp_path / "cluster.json").write_text(json.dumps({"servers": list(entries)} | more))
    with pytest.raises(StudyError) as error:
        read_cluster_config(tmp_path / "cluster.json")
    return error.value.lines


def test_every_fault_of_a_configuration_is_said_at_once(tmp_path):
    open_key = tmp_path / "key"
    open_key.touch()
    open_key.chmod(0o644)
    lines = faults(
        tmp_path,
        {"gpus": 1},
        {"host": "a", "gpus": -1},
        {"host": "b", "gpus": "two", "user": "x; reboot"},
        {"host": "c", "gpus": 1, "colour": "red", "ssh_key": "/nowhere/key"},
        {"host": "d", "gpus": 1, "ssh_key": str(open_key), "port": 70000},
        {"host": "e", "gpus": 1},
        {"host": "e", "gpus": 1},
        {"host": "f$(reboot)", "gpus": 1},
        {"host": "-oProxyCommand=x", "gpus": 1},
        script_paht="x",
    )
    expected = [
        "script_paht: unknown key; did you mean script_path?",
        "servers[0].host: missing; give the host name",
        "servers[1].gpus: -1 needs a number of at least 0",
        'servers[2].gpus: "two" needs a whole number',
        "servers[2].user: \"x; reboot\" needs a user name of letters, digits, '.', '_' and '-'",
        "servers[3].colour: unknown key; choose host, user, gpus, port, ssh_key",
        'servers[3].ssh_key: "/nowhere/key" is no file that can be read; check the path',
        "servers[4].port: 70000 needs a number of at most 65535",
        f'servers[4].ssh_key: "{open_key}" has mode 644, others can read it; chmod 600 it',
        "servers[7].host: \"f$(reboot)\" needs a host name or address of letters, digits, '.', ':' and '-'",
        "servers[8].host: \"-oProxyCommand=x\" needs a host name or address of letters, digits, '.', ':' and '-'",
        'servers: "e" stands there twice; give each server once, with all its GPUs',
    ]
    assert sorted(lines) == sorted(expected)


def test_a_script_path_is_noted_and_ignored(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"servers": [{"host": "localhost", "gpus": 0}], "script_path": "x.py"}))
    config = read_cluster_config(tmp_path / "c.json")
    assert config.servers[0].is_local and config.notes == [
        "script_path: ignored; Snakemake runs the project's own rules"
    ]


def test_what_ssh_is_given_is_quoted():
    server = Server("n", "host", "me", 0, 22, None, None)
    assert command_on(server, ["echo", "a b", "$(x)"])[-1] == "echo 'a b' '$(x)'"
    assert 'StrictHostKeyChecking="yes"' in command_on(server, ["true"])


def test_the_cache_copies_once_verifies_and_keeps_within_its_limit(tmp_path):
    said = []
    cache = tmp_path / "cache"
    model, metadata = tmp_path / "m.pt", tmp_path / "m_metadata.json"
    model.write_bytes(b"weights")
    metadata.write_text(json.dumps({"model_sha256": hashlib.sha256(b"weights").hexdigest()}))
    assert on_this_node(model, "m", metadata, said.append, cache) == model  # no cache here
    cache.mkdir()
    copy = on_this_node(model, "m", metadata, said.append, cache)
    assert copy == cache / "m.pt" and on_this_node(model, "m", metadata, said.append, cache) == copy and len(said) == 1
    copy.write_bytes(b"damaged")
    assert on_this_node(model, "m", metadata, said.append, cache).read_bytes() == b"weights" and len(said) == 2
    (cache / "old.pt").write_bytes(b"x" * 100)
    os.utime(cache / "old.pt", (0, 0))
    make_room(cache, limit=50)
    assert [path.name for path in cache.glob("*.pt")] == ["m.pt"]


HERE = Server("here", "localhost", "me", 0, 22, None, None)


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """Stands for the packages of `.venv`."""
    folder = tmp_path / "site packages"
    (folder / "torch-1.0.dist-info").mkdir(parents=True)
    for number in range(40):
        (folder / f"{number}.py").write_text(str(number))
    monkeypatch.setattr(packages, "installed_in", lambda: folder)
    return folder


def program(tmp_path, monkeypatch, name: str, text: str) -> None:
    """A program of the test's own, found before the real one."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / name).write_text("#!/bin/sh\n" + text)
    (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def test_packages_are_copied_once_and_again_when_they_change(tmp_path, installed):
    place, said = Layout(tmp_path / "the root"), []
    for _ in range(2):
        packages.bring(HERE, place, said.append)
    assert said == ["localhost: copying the packages of .venv, 0 MB"]
    first = packages.folder_of(place)
    assert sorted(f.name for f in first.iterdir()) == sorted(f.name for f in installed.iterdir())
    (installed / "numpy-2.0.dist-info").mkdir()
    packages.bring(HERE, place, said.append)
    second = packages.folder_of(place)
    assert {folder.name for folder in (place.root / "packages").iterdir()} == {first.name, second.name}
    packages.forget_others(HERE, place)
    assert list((place.root / "packages").iterdir()) == [second]
    assert told_by(packages.prolog(place), "rootstock-1_x") == f"export PYTHONPATH={second}\n"
    assert told_by(packages.prolog(place), "rootstock-1_x", PYTHONPATH="own") == f"export PYTHONPATH=own:{second}\n"
    assert told_by(packages.prolog(place), "somebody's") == ""
    before = packages.prolog(place)
    (installed / "scipy-1.0.dist-info").mkdir()
    assert told_by(before, "rootstock-1_x") == ""  # what is there is out of date


def told_by(prolog: str, job: str, **environment: str) -> str:
    environment |= {"SLURM_JOB_NAME": job, "PATH": os.environ["PATH"]}
    return subprocess.run(["sh", "-c", prolog], env=environment, check=True, capture_output=True, text=True).stdout


TAR = """case "$3" in -cf) /bin/tar --exclude="3*" "$@"; echo "a reason" >&2; exit 2 ;; *) exec /bin/tar "$@" ;; esac"""


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [("tar", TAR, "a reason"), ("df", "echo; echo / 9 8 1 89% /", "needs 0 MB in .*, there are 0")],
)
def test_packages_are_there_whole_or_not_at_all(tmp_path, installed, monkeypatch, name, text, reason):
    """Where the sender could not read a file the archive looks whole to who receives it."""
    program(tmp_path, monkeypatch, name, text)
    said = []
    packages.bring(HERE, Layout(tmp_path / "root"), said.append)
    assert re.search(f"over the network, because they cannot be copied: {reason}", said[-1])
    assert not list((tmp_path / "root/packages").iterdir())


def test_two_names_of_one_machine_are_one_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    machines = ("boot-1 net:[1]", "boot-1 net:[2]", "boot-1 net:[1]", " net:[1]", " net:[1]", "", "")
    hosts = [Server(f"s{i}", f"host{i}", "me", 2, 22, None, None) for i in range(len(machines))]
    monkeypatch.setattr(cluster, "probe", lambda server, mark: Probe(server, machine=machines[hosts.index(server)]))
    said = "is the same machine as host0; give it once, with all its GPUs"
    found = cluster.probe_all(ClusterConfig(hosts, []))
    assert [one.faults for one in found] == [[], [], [said], [], [], [], []]


def test_an_unreachable_server_is_one_line_and_starts_nothing(project, tmp_path, monkeypatch):
    monkeypatch.setenv("ROOTSTOCK_CLUSTER_ROOT", str(tmp_path / "root"))
    entry = {"host": "127.0.0.2", "gpus": 0, "port": 9}
    (project / "cluster_config.json").write_text(json.dumps({"servers": [entry]}))
    done = project.script("cluster", "check", check=False)
    assert done.returncode == 1 and "127.0.0.2: not reachable: ssh: connect to host 127.0.0.2 port 9" in done.stdout
    if shutil.which("slurmctld", path=os.environ["PATH"] + ":/usr/sbin"):
        done = project.script("cluster", "up", check=False)
        assert done.returncode == 1 and not (tmp_path / "root").exists()


@pytest.mark.slurm
@pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {', '.join(missing_programs())}")
def test_localhost_is_a_server_no_other_user_may_submit_and_down_leaves_nothing(project, monkeypatch):
    root = Path(f"/var/tmp/rootstock-test-local-{os.getpid()}")
    monkeypatch.setenv("ROOTSTOCK_CLUSTER_ROOT", str(root))
    (project / "cluster_config.json").write_text(json.dumps({"servers": [{"host": "localhost", "gpus": 0}]}))
    environment = os.environ | {"SLURM_CONF": str(root / "etc/slurm.conf")}
    try:
        assert project.script("cluster", "up").stdout.count("ready") == 1
        submit = ["srun", "-n1", "id", "-u"]
        mine = subprocess.run(submit, env=environment, capture_output=True, text=True, timeout=60)
        assert mine.stdout.strip() == str(os.getuid()), mine.stderr
        assert root.stat().st_mode & 0o077 == 0
        if os.getuid() == 0:  # even one who knows the configuration has no way to our munged
            root.chmod(0o711)
            (root / "etc").chmod(0o755)
            (root / "etc/slurm.conf").chmod(0o644)
            stranger = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *submit]
            other = subprocess.run(stranger, env=environment, capture_output=True, text=True, timeout=60)
            assert other.returncode != 0 and "munge.socket" in other.stderr and not other.stdout
            root.chmod(0o700)
        sleep = f"sleep 4{os.getpid()}"  # a job that no slurmctld can cancel any more
        subprocess.run(["sbatch", "--output=/dev/null", f"--wrap={sleep}"], env=environment, check=True, timeout=60)
        until(lambda: sleep in commands(), "the job")
        os.kill(int((root / "run/slurmctld.pid").read_text()), signal.SIGKILL)
    finally:
        down = project.script("cluster", "down", check=False)
    assert down.returncode == 0 and not root.exists()
    assert str(root) not in commands() and sleep not in commands()


def commands() -> str:
    """What runs on this machine."""
    return subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True).stdout


class ServerProject(Project):
    """A project whose code is its own copy, for it is looked at from servers too."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("workflow", "profiles", "config"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "slurm").symlink_to("profiles/slurm")
        (folder / "local").symlink_to("profiles/local")


def python_of(project: Project) -> str:
    """The Python of a `.venv` in a project: small, with one module of its own; the rest is where the tests have it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    (packages,) = (project / ".venv/lib").glob("python*/site-packages")
    (packages / "own.py").touch()
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return str(project / ".venv/bin/python")


def where_own_module_lies(project: Project, environment: dict, *flags: str) -> list[str]:
    """Of the project's Python, in a job of Rootstock's on each node."""
    code = [project.python, "-c", "import own, snakemake; print(own.__file__)"]
    job = ["srun", "--job-name=rootstock-test", "-n1", *flags, *code]
    ran = subprocess.run(job, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.slurm
@pytest.mark.skipif(bool(servers.missing()), reason=servers.missing() or "can run")
def test_two_servers_that_share_only_ssh_run_a_study_though_one_is_killed(tmp_path, monkeypatch):
    (tmp_path / "work/project").mkdir(parents=True)
    project = ServerProject(tmp_path / "work/project")
    root = Path(f"/var/tmp/rootstock-test-{os.getpid()}")  # a place that each server has for itself
    monkeypatch.setenv("ROOTSTOCK_CLUSTER_ROOT", str(root))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    write_people(project / "data/tiny")
    finetunes = {"mode": ["full_fine_tuning", "target_only_fine_tuning", "last_layer_only"], "max_epochs": 2}
    base = {"max_epochs": 150, "lr": 0.01, "batch_size": 8, "seed": [0, 1]}
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0], "base": base}
    project.study("remote", study | {"finetune": finetunes, "run": {"checkpoint_steps": 20}})
    rack = servers.Servers(tmp_path / "servers", hidden=tmp_path / "work")
    try:
        config = {"servers": rack.entries(), "known_hosts": str(tmp_path / "servers/known_hosts")}
        (project / "cluster_config.json").write_text(json.dumps(config))
        project.python = python_of(project)
        up = project.script("cluster", "up")
        assert up.stdout.count("ready") == 2 == up.stdout.count("mounted") == up.stdout.count("copying the packages")
        assert (root / "munge/munge.key").stat().st_mode & 0o777 == 0o600 and root.stat().st_mode & 0o077 == 0
        again = project.script("cluster", "up").stdout  # a second time changes nothing
        assert again.count("ready") == 2 and "copying" not in again

        environment = os.environ | {"SLURM_CONF": str(root / "etc/slurm.conf")}
        copied = where_own_module_lies(project, environment, "-N2", "-n2")
        assert len(copied) == 2 and copied[0] == copied[1] and copied[0].startswith(f"{root}/packages/")
        in_venv = str(project / ".venv")
        assert where_own_module_lies(project, environment, "--job-name=not-ours")[0].startswith(in_venv)
        (sorted((project / ".venv/lib").glob("python*/site-packages"))[0] / "other-1.0.dist-info").mkdir()
        until(lambda: where_own_module_lies(project, environment)[0].startswith(in_venv), "the change to be seen")
        snakemake = str(os.path.join(os.path.dirname(sys.executable), "snakemake"))
        command = [snakemake, "--profile", "slurm", "--configfile", "remote.yaml", "--default-resources", "mem_mb=500"]
        with open(project / "run.log", "w") as log:
            run = subprocess.Popen(command, cwd=project.folder, env=environment, stdout=log, stderr=log)
        store = project / ".rootstock/store"
        until(lambda: len({p.parent for p in store.glob("*/checkpoints")}) == 2, "two trainings", seconds=120)
        rack.kill("server2")
        done = run.wait(300)
        assert done == 0, (project / "run.log").read_text()[-5000:]
        assert len(list(project.folder.glob("experiments/*/*/metrics.json"))) == 6
        logs = "".join(log.read_text() for log in (project / "logs/finetune").rglob("*.log"))
        assert logs.count("copied base model") == 2  # to the server that is left, each base once for three fine-tunes

        rack.boot("server2")
        assert project.script("cluster", "up").stdout.count("ready") == 2
        (present,) = set(where_own_module_lies(project, environment, "-N2", "-n2"))
        assert present.startswith(f"{root}/packages/") and present != copied[0]
        project.script("cluster", "clean")
        for name in rack.names:
            assert rack.ssh(name, f"ls {root}/packages").stdout.split() == [Path(present).parent.name]
        assert not project.script("cluster", "down").stdout
        assert not root.exists()
        for name in rack.names:
            left = rack.ssh(name, "ls /var/tmp; ps -A -o comm=; grep fuse.sshfs /proc/mounts")
            assert root.name not in left.stdout
            assert not {"munged", "slurmd", "sshfs", "slurmstepd"} & set(left.stdout.split()), left.stdout
    finally:
        project.script("cluster", "down", check=False)
        rack.stop()


@pytest.mark.slurm
@pytest.mark.skipif(bool(servers.missing()), reason=servers.missing() or "can run")
def test_a_server_without_slurm_gets_it_without_root(tmp_path, monkeypatch):
    (tmp_path / "work/project").mkdir(parents=True)
    project = ServerProject(tmp_path / "work/project")
    root = Path(f"/var/tmp/rootstock-test-unpacked-{os.getpid()}")
    monkeypatch.setenv("ROOTSTOCK_CLUSTER_ROOT", str(root))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    rack = servers.Servers(tmp_path / "servers", hidden=tmp_path / "work", count=1, has_slurm=False)
    try:
        config = {"servers": rack.entries(), "known_hosts": str(tmp_path / "servers/known_hosts")}
        (project / "cluster_config.json").write_text(json.dumps(config))
        told = project.script("cluster", "up", check=False)
        assert told.returncode == 1 and "without root: cluster.py up --unpack" in told.stdout
        up = project.script("cluster", "up", "--unpack", check=False)
        if "cannot be fetched" in up.stdout + up.stderr:
            pytest.skip("apt-get cannot fetch packages here")
        assert up.returncode == 0, up.stdout + up.stderr
        environment = os.environ | {"SLURM_CONF": str(root / "etc/slurm.conf")}
        job = ["srun", "-n1", "--gpus=1", "sh", "-c", "hostname; echo $CUDA_VISIBLE_DEVICES"]
        ran = subprocess.run(job, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.stdout.split() == ["server1", "0"], ran.stderr
        assert project.script("cluster", "up").stdout.count("ready") == 1  # it stays there until down
        project.script("cluster", "down")
        assert root.name not in rack.ssh("server1", "ls /var/tmp").stdout
    finally:
        project.script("cluster", "down", check=False)
        rack.stop()
