"""Other people's hands: what a second user of the machine puts in our way is neither run, followed, overwritten nor deleted."""

import hashlib
import importlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PEOPLE, job_of, plan, ran, refused
from test_engine import start, wait_for_line

from rootstock.cluster import cluster, daemons, packages, unpacked
from rootstock.cluster.slurm_files import Layout
from rootstock.commands import cli
from rootstock.controller.planning import begin_run
from rootstock.controller.status import JobStatus
from rootstock.engine import checkpoint, files
from rootstock.engine.checkpoint import Checkpoints, read_checkpoint, read_state
from rootstock.engine.files import to_bytes
from rootstock.engine.progress import Progress
from rootstock.job import gpus
from rootstock.job.job import Job
from rootstock.job.node_cache import on_this_node
from rootstock.job.start import load_start
from rootstock.job.train import train
from rootstock.machine import private
from rootstock.machine.private import cluster_root
from rootstock.slurm import executor
from rootstock.store.files import write_atomically
from rootstock.store.garbage import find_garbage, remove
from rootstock.store.inventory import inventory
from rootstock.store.lock import LIFETIME, hold, holder, is_held
from rootstock.store.lock_file import LockFile
from rootstock.store.model_files import described, model_files
from rootstock.store.objects import stored
from rootstock.store.users import record_user, retire_user, users_of
from rootstock.study import paths
from rootstock.study.identity import HASH_LENGTH, canonical, sha256_text
from rootstock.study.problems import Refusal, StudyError
from rootstock.study.resumption import Resumption
from rootstock.study.run import Run
from rootstock.tasks.registry import TASKS

SPEC = '{"lr":1.0}'
NAME = sha256_text(SPEC)[:HASH_LENGTH]
STRANGER = "nobody"
PRECIOUS = b"years of work"


@pytest.fixture
def place():
    """A folder that a stranger can enter; pytest's own are ours alone."""
    folder = Path(tempfile.mkdtemp(prefix="rootstock-hands-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def stranger(place):
    """Runs a command as the second user of this machine."""
    if os.geteuid() != 0:
        pytest.skip("not root: no second account to act as")
    account = pwd.getpwnam(STRANGER)

    def run(*command) -> None:
        ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        subprocess.run(list(map(str, command)), check=True, cwd="/", **ids)

    return run


@pytest.fixture
def home(place) -> Path:
    """A folder of ours that nobody else enters, with a file in it that must stay as it is."""
    folder = place / "home"
    folder.mkdir(0o700)
    (folder / "precious").write_bytes(PRECIOUS)
    yield folder
    assert (folder / "precious").read_bytes() == PRECIOUS
    assert os.listdir(folder) == ["precious"]


# The folder under /var/tmp


@pytest.fixture
def root(place, monkeypatch) -> Path:
    """Where our cluster would lie, in a folder like /var/tmp; nothing is there yet."""
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    monkeypatch.setenv("ROOTSTOCK_CLUSTER_ROOT", str(place / "tmp/cluster"))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    return place / "tmp/cluster"


PLANT = """
set -e; umask 022; root=$1; programs=$root/unpacked/usr/sbin
mkdir -p "$programs" "$root/unpacked/usr/lib/x/slurm-wlm" "$root/etc" "$root/log" "$root/cache" "$root/run"
for name in slurmd munged slurmctld sinfo; do
    printf '#!/bin/sh\\necho "$0" >> %s\\n' "$2" > "$programs/$name"; chmod 755 "$programs/$name"
done
echo "PluginDir=$root" > "$root/etc/slurm.conf"; echo told > "$root/log/slurmd-localhost.log"; echo '[]' > "$root/etc/servers.json"
"""


def planted(root: Path, witness: Path, how: str, stranger) -> None:
    """What a stranger left in the place of our cluster, `how`: theirs, a link to theirs, or ours that was open to them."""
    words = ("sh", "-c", PLANT, "sh")
    if how == "theirs":
        stranger(*words, root, witness)
    elif how == "a link":
        stranger(*words, root.with_name("elsewhere"), witness)
        stranger("ln", "-s", root.with_name("elsewhere"), root)
    elif how == "a link in ours":
        root.mkdir(0o700)
        stranger(*words, root.with_name("elsewhere"), witness)
        (root / "unpacked").symlink_to(root.with_name("elsewhere") / "unpacked")
    else:
        root.mkdir()
        root.chmod(0o777)
        stranger(*words, root, witness)


HOWS = {"theirs": "belongs to user", "a link": "is a link", "open": "has mode 777", "a link in ours": "is a link"}


@pytest.mark.parametrize("command", ["check", "status", "up", "logs", "clean", "down"])
@pytest.mark.parametrize("how", HOWS)
def test_a_cluster_folder_that_is_not_ours_alone_is_refused(
    project, place, root, stranger, capsys, monkeypatch, command, how
):
    planted(root, place / "ran", how, stranger)
    before = everything(root.parent)
    (project / "cluster_config.json").write_text(json.dumps({"servers": [{"host": "localhost", "gpus": 0}]}))
    said = refused(project, capsys, "cluster", command, *(["localhost"] if command == "logs" else []))
    assert str(root) in said and HOWS[how] in said and "remove it, or set ROOTSTOCK_CLUSTER_ROOT" in said
    assert not (place / "ran").exists() and everything(root.parent) == before


SCRIPTS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
    for module, names in (
        (daemons, ("FOLDERS", "WRITE", "PROGRAMS", "RUNS")),
        (unpacked, ("UNPACK", "TRY", "REMOVE")),
        (packages, ("HAS", "RECEIVE", "PUBLISH", "REMOVE", "FORGET")),
        (importlib.import_module("cluster"), ("FORGET",)),
    )
    for name in names
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("how", HOWS)
def test_each_script_of_a_server_checks_the_folder_first(place, root, stranger, name, how):
    planted(root, place / "ran", how, stranger)
    before = everything(root.parent)
    command = ["sh", "-c", SCRIPTS[name] + "\nslurmd -V; munged --version", "sh", root, "etc/slurm.conf", "600"]
    done = subprocess.run(command, input="", capture_output=True, text=True)
    assert done.returncode == 1 and HOWS[how] in done.stderr.splitlines()[-1] and str(root) in done.stderr
    assert not (place / "ran").exists() and everything(root.parent) == before


def everything(folder: Path) -> dict[str, tuple]:
    return {str(p): (p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_mtime_ns) for p in folder.rglob("*")}


def test_only_a_folder_of_ours_is_the_cluster_of_a_run(root, place, stranger, monkeypatch):
    if Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("this machine has a Slurm of its own, which is used")
    planted(root, place / "ran", "theirs", stranger)
    with pytest.raises(Refusal, match="belongs to user"):
        executor.use_own_cluster()
    assert "SLURM_CONF" not in os.environ
    shutil.rmtree(root)
    (root / "etc").mkdir(parents=True)
    root.chmod(0o700)
    (root / "etc/slurm.conf").touch()
    executor.use_own_cluster()
    assert os.environ.pop("SLURM_CONF") == str(root / "etc/slurm.conf")


def test_a_folder_that_a_stranger_makes_after_it_was_looked_for_is_not_used(root, place, stranger, monkeypatch):
    monkeypatch.delenv("SLURM_CONF", raising=False)
    looked = private.is_own

    def too_early(folder, fix):
        found = looked(folder, fix)
        if not root.exists():
            planted(root, place / "ran", "theirs", stranger)
        return found

    monkeypatch.setattr(private, "is_own", too_early)
    for use in (executor.use_own_cluster, lambda: cluster.node_states(Layout(cluster_root()))):
        with pytest.raises(Refusal, match="belongs to user"):
            use()
        shutil.rmtree(root)
    assert "SLURM_CONF" not in os.environ and not (place / "ran").exists()


def test_the_folder_of_the_cluster_is_ours_or_not_there(root):
    assert cluster_root() == root
    root.mkdir(0o700)
    assert cluster_root() == root
    root.chmod(0o750)
    with pytest.raises(Refusal, match="has mode 750, not 700"):
        cluster_root()


@pytest.mark.parametrize("how", ["theirs", "a link", "open"])
def test_a_cache_in_such_a_folder_is_not_used(root, place, home, stranger, how):
    planted(root, place / "ran", how, stranger)
    stranger("ln", "-s", home / "precious", root / "cache/.m.half")
    model, said = place / "m.pt", []
    model.write_bytes(b"weights")
    (place / "m.json").write_text(json.dumps({"model_sha256": hashlib.sha256(b"weights").hexdigest()}))
    assert on_this_node(model, "m", place / "m.json", said.append, root / "cache") == model
    assert len(said) == 1 and HOWS[how] in said[0] and os.listdir(root / "cache") == [".m.half"]


def test_a_link_in_the_place_of_a_cached_copy_is_replaced(place, home, root):
    (root / "cache").mkdir(parents=True)
    root.chmod(0o700)
    (root / "cache/m.pt").symlink_to(home / "precious")
    model, said = place / "m.pt", []
    model.write_bytes(b"weights")
    (place / "m.json").write_text(json.dumps({"model_sha256": hashlib.sha256(b"weights").hexdigest()}))
    copy = on_this_node(model, "m", place / "m.json", said.append)
    assert copy == root / "cache/m.pt" and not copy.is_symlink() and copy.read_bytes() == b"weights"


@pytest.mark.parametrize("how", ["theirs", "a link", "open"])
def test_gpu_leases_lie_in_a_folder_of_ours_alone(root, place, stranger, monkeypatch, how):
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(gpus.VISIBLE, "0")
    planted(root, place / "ran", how, stranger)
    before = everything(root.parent)
    with (
        pytest.raises(Refusal, match=f"{HOWS[how]}.*remove it, or set TMPDIR"),
        gpus.granted_gpus(1, "auto", print, root),
    ):
        pass
    assert everything(root.parent) == before


# A store that others can write


@pytest.fixture
def store(place) -> Path:
    folder = place / "store"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def kept(store):
    kept = stored(store, NAME)
    kept.commit(b"weights", {"kind": "base", "history": []}, SPEC, b"state")
    kept.folder.chmod(0o777)
    return kept


@pytest.fixture
def plant(stranger):
    """A link of a stranger's."""
    return lambda link, target: stranger("ln", "-sfn", target, link)


def is_refused(link: Path, act) -> None:
    """`act` ends with one line that names the link."""
    with pytest.raises(Refusal, match="is a link") as refusal:
        act()
    assert str(link) in str(refusal.value) and "\n" not in str(refusal.value)


def checkpoints_of(kept, say=print) -> Checkpoints:
    return Checkpoints(kept.checkpoints, NAME, 1, None, say)


def entered(context) -> None:
    with context:
        pass


def test_a_link_in_the_place_of_checkpoints_costs_nobody_a_file(kept, home, plant):
    plant(kept.checkpoints, home)
    said = []
    checkpoints_of(kept, said.append).clear()
    kept.clear_checkpoints(said.append)
    assert len(said) == 2 and all(str(kept.checkpoints) in line for line in said)
    is_refused(kept.checkpoints, lambda: checkpoints_of(kept).save(1, {"epoch": 1}))
    is_refused(kept.checkpoints, checkpoints_of(kept).load_latest)
    is_refused(kept.checkpoints, lambda: read_checkpoint(kept.checkpoints / "step_1.pt"))
    assert find_garbage(kept.store, set()) == [] == find_garbage(kept.store, {NAME})
    (entry,) = inventory(kept.store)
    assert entry.state == "refused" and str(kept.checkpoints) in entry.fault and entry.size < 10_000
    remove(kept.store, NAME)
    assert not kept.folder.exists()


def test_a_link_in_the_place_of_a_kept_checkpoint_is_replaced(kept, home, plant):
    plant(kept.folder / "checkpoint_step_4.pt", home / "precious")
    Checkpoints(kept.checkpoints, NAME, 1, None, print, keep_every=4).save(4, {"epoch": 1})
    assert not (kept.folder / "checkpoint_step_4.pt").is_symlink()
    plant(kept.folder / "checkpoint_step_4.pt", home / "precious")
    is_refused(kept.folder / "checkpoint_step_4.pt", lambda: read_state(kept.folder / "checkpoint_step_4.pt"))


@pytest.mark.parametrize("name", ["lock", "lock.holder", f"lock.{socket.gethostname()}.break"])
@pytest.mark.parametrize("content", [PRECIOUS, None])
def test_a_link_in_the_place_of_a_lock_is_refused(kept, home, plant, name, content):
    target = home / ("precious" if content else "new")
    os.utime(home / "precious", (1, 1))
    plant(kept.folder / name, target)
    lock = kept.folder / "lock"
    for act in (
        lambda: entered(kept.lock(1, print)),
        lambda: is_held(lock, kept.store),
        lambda: remove(kept.store, NAME),
    ):
        is_refused(kept.folder / name, act)
    assert (home / "precious").stat().st_mtime == 1


def test_what_a_lock_says_removes_no_file(kept, home, stranger):
    lock = kept.folder / "lock"
    stranger("sh", "-c", 'printf %s "$2" > "$1"; touch -d "1 day ago" "$1"', "sh", lock, home / "precious")
    entered(hold(lock, kept.store, wait_seconds=1))
    assert not lock.exists()


def test_a_link_in_the_place_of_a_claim_costs_nobody_a_file(kept, home, monkeypatch):
    """Somebody who waits for a lock tries again and again: whoever saw a claim's name knew the next one."""
    claims, write = [], LockFile._write

    def seen(lock):
        claims.append(lock.claimfile)
        Path(lock.claimfile).symlink_to(home / "precious")
        write(lock)

    monkeypatch.setattr("rootstock.store.lock.POLL", timedelta(seconds=0.1))
    monkeypatch.setattr(LockFile, "_write", seen)
    with (
        hold(kept.folder / "lock", kept.store),
        pytest.raises(Refusal, match="held by"),
        hold(kept.folder / "lock", kept.store, wait_seconds=1, say=lambda _: None),
    ):
        pass
    assert len(claims) > 2 and len(set(claims)) == len(claims)
    assert not [name for name in os.listdir(kept.folder) if name.startswith("lock")]


def test_a_claim_that_became_a_link_is_not_touched(kept, home):
    os.utime(home / "precious", (1, 1))
    lock = LockFile(kept.folder / "lock", kept.store, LIFETIME)
    Path(lock.claimfile).symlink_to(home / "precious")
    lock._touch()
    assert (home / "precious").stat().st_mtime == 1


@pytest.mark.parametrize("swap", ["link", "pipe", "folder"])
def test_who_lost_a_lock_to_something_else_is_told(kept, home, monkeypatch, swap):
    monkeypatch.setattr("rootstock.store.lock.LIFETIME", timedelta(seconds=0.6))
    path, lost, said = kept.folder / "lock", threading.Event(), []
    with hold(path, kept.store, say=said.append, lost=lost.set):
        path.unlink()
        make = {"link": lambda: path.symlink_to(home / "precious"), "pipe": lambda: os.mkfifo(path)}
        make.get(swap, path.mkdir)()
        assert lost.wait(10)
    assert "taken over" in said[0]


@pytest.mark.parametrize("name", ["lock.holder", f"lock.{socket.gethostname()}.break"])
def test_a_folder_beside_a_lock_does_not_keep_it_held(kept, name):
    said = []
    with hold(kept.folder / "lock", kept.store, say=said.append):
        (kept.folder / name).unlink(missing_ok=True)
        (kept.folder / name).mkdir()
    assert not is_held(kept.folder / "other", kept.store) and not (kept.folder / "lock").exists()
    assert len(said) == 1 and [n for n in os.listdir(kept.folder) if n.startswith("lock")] == [name]


@pytest.mark.parametrize("name", ["metadata.json", "model.pt"])
def test_a_link_in_the_place_of_a_model_is_not_read(kept, place, plant, name):
    shutil.copy(kept.folder / name, place / "copy")
    (kept.folder / name).unlink()
    plant(kept.folder / name, place / "copy")
    published = (place / "p/m.pt", place / "p/m_metadata.json")
    for act in (kept.read, lambda: kept.publish_base(*published), lambda: kept.publish_experiment(place / "e")):
        is_refused(kept.folder / name, act)
    assert not (place / "p").exists() and not (place / "e").exists()


def test_a_link_in_the_place_of_a_state_is_not_read(kept, place, plant):
    shutil.move(kept.state, place / "copy")
    plant(kept.state, place / "copy")
    is_refused(kept.state, lambda: read_state(kept.state))


def test_a_model_is_written_over_a_link_not_through_it(store, home, plant):
    kept = stored(store, NAME)
    kept.folder.mkdir()
    kept.folder.chmod(0o777)
    for name in ("model.pt", "state.pt"):
        plant(kept.folder / name, home / "precious")
    kept.commit(b"weights", {"kind": "base", "history": []}, SPEC, b"state")
    assert kept.model.read_bytes() == b"weights" and not kept.model.is_symlink() and not kept.state.is_symlink()


def test_a_link_in_the_place_of_an_object_is_not_entered(store, place, home, plant):
    elsewhere = stored(place / "elsewhere", NAME)
    elsewhere.commit(b"weights", {"kind": "base", "history": []}, SPEC)
    before = everything(elsewhere.store)
    plant(store / NAME, elsewhere.folder)
    kept = stored(store, NAME)
    for act in (
        kept.is_whole,
        kept.read,
        lambda: kept.commit(b"w", {}, SPEC),
        lambda: entered(kept.lock(1, print)),
        lambda: remove(store, NAME),
        lambda: checkpoints_of(kept).save(1, {"epoch": 1}),
        lambda: read_state(kept.state),
    ):
        is_refused(store / NAME, act)
    said = []
    kept.clear_checkpoints(said.append)
    assert find_garbage(store, set()) == [] and inventory(store)[0].state == "refused" and len(said) == 1
    assert everything(elsewhere.store) == before


def test_a_link_in_the_place_of_the_users_is_not_entered(store, place, home, plant):
    plant(store / "users", home)
    for act in (
        lambda: record_user(store, place, "s", set()),
        lambda: users_of(store),
        lambda: retire_user(store, place, "s"),
        lambda: find_garbage(store, set()),
    ):
        is_refused(store / "users", act)


def test_a_link_in_the_place_of_the_users_stops_no_run(store, place, home, plant, monkeypatch):
    monkeypatch.chdir(place)
    plant(store / "users", home)
    before, said = everything(home), []
    begin_run(plan(participants=["s01", "s02"], store=str(store)), said.append)
    assert len(said) == 1 and f"not recorded in the store ({store / 'users'}" in said[0] and everything(home) == before


def test_a_checkpoint_does_not_choose_more_threads_than_a_machine_has_use_for(monkeypatch):
    chosen, said = [], []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    progress = Progress(*[None] * 6)
    for threads in (10**6, -1, torch.get_num_threads() + 1):
        progress._keep_how({"threads": threads, "compile": False}, SimpleNamespace(say=said.append, run=Run()))
    assert chosen == [torch.get_num_threads() + 1] and said[0].endswith(
        f"{max(8, os.cpu_count() or 1)} are the most here"
    )


def test_a_link_in_the_place_of_a_users_record_is_not_read(store, place, plant):
    record_user(store, place, "s", set())
    (record,) = (store / "users").iterdir()
    shutil.move(record, place / "copy")
    before = (place / "copy").read_bytes()
    plant(record, place / "copy")
    is_refused(record, lambda: users_of(store))
    is_refused(record, lambda: retire_user(store, place, "s"))
    record_user(store, place, "s", {NAME})
    assert not record.is_symlink() and (place / "copy").read_bytes() == before


def test_a_temporary_file_is_never_one_that_was_there(kept, home, plant, monkeypatch):
    tried = []

    def foreseen(_: int = 0) -> str:
        return "0a1b"

    monkeypatch.setattr(secrets, "token_hex", foreseen)
    monkeypatch.setattr(os, "fsync", lambda _: tried.append(sorted(os.listdir(kept.folder))))
    write_atomically(kept.folder / "x", b"1", kept.store)
    (name,) = (name for name in tried[0] if name.startswith(".x"))
    plant(kept.folder / name, home / "precious")
    with pytest.raises(OSError, match="File exists"):
        write_atomically(kept.folder / "x", b"2", kept.store)
    assert (kept.folder / "x").read_bytes() == b"1"


def test_a_pipe_in_the_place_of_a_file_does_not_block(kept):
    kept.model.unlink()
    os.mkfifo(kept.model)
    with pytest.raises(Refusal, match="no regular file"):
        kept.read()


def test_another_users_model_is_copied_not_linked(kept, place):
    if os.geteuid() != 0:
        pytest.skip("not root: no second account to act as")
    os.chown(kept.model, pwd.getpwnam(STRANGER).pw_uid, -1)
    kept.publish_base(place / "p/m.pt", place / "p/m_metadata.json")
    assert (place / "p/m.pt").stat().st_nlink == 1 and (place / "p/m_metadata.json").stat().st_nlink == 2


def test_a_store_itself_may_be_a_link(kept, place):
    (place / "mine").symlink_to(kept.store)
    assert stored(place / "mine", NAME).read()["spec"] == {"lr": 1.0}
    entered(stored(place / "mine", NAME).lock(1, print))


@pytest.mark.parametrize("command", ["list", "verify", "show", "gc", "forget", "users"])
def test_a_link_is_named_by_what_looks_at_a_store(project, people, kept, place, home, plant, capsys, command):
    shutil.move(kept.folder, place / "moved")
    plant(kept.folder, place / "moved")
    if command == "users":
        plant(kept.store / "users", home)
    project.study("s", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}})
    more = {"show": [NAME], "forget": [NAME], "gc": ["--configfile", "s.yaml", "--yes"]}
    status, out, err = ran(project, capsys, "base_models", command, *more.get(command, []), "--store", kept.store)
    assert status == (command in ("verify", "show", "forget"))
    link = kept.store / "users" if command == "users" else kept.folder
    assert [line for line in (out + err).splitlines() if f"{link}: is a link" in line] and (
        place / "moved/model.pt"
    ).exists()


def test_what_others_wrote_commands_no_terminal(capsys):
    def main():
        cli.say("user \x1b]0;title\x07")
        raise Refusal("a line\nof \x1b[2J\x9b2J\u202eothers")

    assert cli._status_of(main) == 1
    assert capsys.readouterr() == ("user ?]0;title?\n", "a line\\nof \\x1b[2J\\x9b2J\\u202eothers\n")


# What is verified is what is loaded


@pytest.fixture
def base(people, project, monkeypatch):
    """A base model with one weight, published in the working folder, and its content."""
    monkeypatch.chdir(project.folder)
    (training,) = plan(data={"path": "data/tiny"}, participants=list(PEOPLE), folds=[0]).bases.values()
    content = {"model": {"w": torch.ones(1)}, "spec": json.loads(canonical(training.spec)), "hash": training.hash}
    kept = stored("store", training.hash)
    kept.commit(to_bytes(content), {"kind": "base", "task": "activity", "history": []}, canonical(training.spec))
    model = Path(paths.base_model(training.hash))
    kept.publish_base(model, paths.base_metadata(model))
    return model, content


def swapping(monkeypatch, module, path: Path, content: dict) -> None:
    """Let another file take the name of a verified one in the moment before it is loaded."""
    load = files.load

    def swapped(source):
        path.with_name("other").write_bytes(to_bytes(content | {"model": {"w": torch.zeros(1)}}))
        os.replace(path.with_name("other"), path)
        return load(source)

    monkeypatch.setattr(module, "load", swapped)


def loaded(model: Path, name: str, **of_job) -> dict:
    """What a job that starts from a published base model gets of it."""
    (training,) = plan(data={"path": "data/tiny"}, participants=list(PEOPLE), folds=[0]).bases.values()
    return load_start(Job(training.spec, "", "store", str(model), **of_job), name).content


def test_a_base_model_that_is_swapped_after_it_was_verified_is_not_loaded(base, monkeypatch):
    model, content = base
    swapping(monkeypatch, files, model, content)
    assert loaded(model, content["hash"])["model"]["w"] == 1
    with pytest.raises(Refusal, match="damaged"):
        loaded(model, content["hash"])


def test_a_copy_of_the_cache_that_is_swapped_is_not_loaded(base, monkeypatch, root):
    (root / "cache").mkdir(parents=True)
    root.chmod(0o700)
    model, content = base
    swapping(monkeypatch, files, root / f"cache/{content['hash']}.pt", content)
    said = []
    assert loaded(model, content["hash"], say=said.append)["model"]["w"] == 1
    assert len(said) == 1 and said[0].startswith("copied base model")


def test_a_checkpoint_that_is_swapped_is_not_loaded(kept, monkeypatch):
    state = {"epoch": 1, "model": {"w": torch.ones(1)}}
    checkpoints_of(kept).save(1, state)
    swapping(monkeypatch, checkpoint, kept.checkpoints / "step_1.pt", state)
    assert checkpoints_of(kept).load_latest()["model"]["w"] == 1
    assert checkpoints_of(kept, lambda _: None).load_latest() is None


def test_a_state_that_is_swapped_is_not_loaded(store, monkeypatch):
    state, kept = {"epoch": 1, "model": {"w": torch.ones(1)}}, stored(store, NAME)
    kept.commit(b"weights", {"history": []}, SPEC, to_bytes(state))
    swapping(monkeypatch, checkpoint, kept.state, state)
    assert read_state(kept.state)["model"]["w"] == 1


def test_a_model_that_is_swapped_after_it_was_verified_is_not_published(kept, place, monkeypatch):
    opened = type(kept).opened
    other = kept.folder / "other"

    def swapped(self):
        context = opened(self)
        enter = context.__enter__

        class Swapping:
            def __enter__(self):
                verified = enter()
                other.write_bytes(b"theirs")
                os.replace(other, kept.model)
                return verified

            def __exit__(self, *error):
                return context.__exit__(*error)

        return Swapping()

    monkeypatch.setattr(type(kept), "opened", swapped)
    kept.publish_base(place / "p/m.pt", place / "p/m_metadata.json")
    assert (place / "p/m.pt").read_bytes() == b"weights"


# Names that become paths


BASE = ("--fold", "0", "--data_path", "data/tiny", "--max_epochs", "1")
TUNE = (*BASE, "--mode", "target_only")


@pytest.mark.parametrize(
    ("script", "flags", "word"),
    [
        ("train_base", (*BASE, "--asked_by", "../../x"), "--asked_by: '../../x' needs a name"),
        ("train_base", (*BASE, "--asked_by", "/x"), "--asked_by: '/x' needs a name"),
        ("train_base", (*BASE, "--prefix", "../x"), "--prefix: '../x' needs a name"),
        ("train_base", (*BASE, "--output", "data"), "--output: 'data' is a folder"),
        ("train_base", (*BASE, "--store", ""), "--store: '' is the project itself"),
        ("train_base", (*BASE, "--store", "."), "--store: '.' is the project itself"),
        ("train_base", (*BASE, "--continues", "../../x"), "hash: '../../x' is none"),
        ("train_finetune", (*TUNE, "--asked_by", "../../x"), "--asked_by: '../../x' needs a name"),
        ("train_finetune", (*TUNE, "--asked_by", "s", "--output", "../x"), "no job's record lies there"),
        ("train_finetune", (*TUNE, "--prefix", "../x"), "--prefix: '../x' needs a name"),
        ("train_finetune", (*TUNE, "--output", "data/tiny/ann_val.pt"), "is no folder"),
        ("train_finetune", (*TUNE, "--base_model_hash", "../../x"), "is not a hash"),
        ("measure_baseline", ("--spec", "{}", "--data_path", "data/tiny", "--output", "data"), "'data' is a folder"),
        ("summarise", ("--study", "study.json", "--output", "data"), "'data' is a folder"),
        ("prepare_data", ("--task", "activity", "--spec", "{}", "--output", ""), "is no folder"),
        ("export_model", ("--hash", "../../x", "--output", "out"), "hash: '../../x' is none"),
        ("export_model", ("--hash", NAME, "--output", "study.json"), "'study.json' is no folder"),
        ("export_model", ("--hash", NAME, "--store", "", "--output", "out"), "is the project itself"),
        ("base_models", ("list", "--store", ""), "is the project itself"),
        ("base_models", ("retire", "../../x"), "has no record"),
        ("base_models", ("show", "../x"), "names 0 objects"),
        ("list_checkpoints", ("--store", ""), "is the project itself"),
        ("interactive_inference", ("--store", ""), "is the project itself"),
        ("resume_training", ("--store", ""), "is the project itself"),
        ("status", ("--configfile", "study.json", "--follow", "../../x"), "is no job of this study"),
    ],
)  # fmt: skip
def test_a_flag_that_becomes_a_path_stays_in_its_place(project, people, capsys, script, flags, word):
    (project / "study.json").write_text(json.dumps({"study": "s", "data": {"path": "data/tiny"}, "task": "activity"}))
    (project / ".rootstock").mkdir()
    assert word in refused(project, capsys, script, *flags)


def test_a_base_of_a_spec_is_a_hash(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    (tuned, *_) = plan(data={"path": "data/tiny"}, folds=[0], finetune={"mode": "last_layer_only"}).experiments.values()
    job = job_of(tuned)
    spec = job.spec.model_copy(update={"base": "../../x"})
    with pytest.raises(Refusal, match=r"hash: '\.\./\.\./x' is none"):
        train(Job(spec, job.data, "store", say=print))


@pytest.mark.parametrize("store", ["", " ", ".", "./"])
def test_a_study_cannot_keep_its_models_in_the_project_itself(store):
    with pytest.raises(StudyError, match=r'^store: "'):
        plan(store=store)


@pytest.mark.parametrize("folder", ["", " ", "/x", "../x"])
def test_exports_stay_in_the_project(folder):
    with pytest.raises(StudyError, match="artifacts_dir"):
        plan(task="distillation", artifacts_dir=folder, save_to_artifacts=True)


def checkpoint_of(project, **about) -> Path:
    """A checkpoint of a language model's branch, as far as resume_training looks at it before it loads one."""
    spec = {"task": "language_model", "base": NAME, "mode": "full", "domain": "cells"}
    content = {
        "hash": NAME,
        "spec": spec,
        "data": "prepared/x",
        "step": 1,
        "loss": None,
        "world_size": 1,
        "run": {},
        "epoch": 1,
    }
    file = project / f"store/{NAME}/checkpoints/step_1.pt"
    file.parent.mkdir(parents=True)
    file.with_suffix(".json").write_text(json.dumps(content | {"asked_by": {}} | about))
    file.touch()
    return file


@pytest.mark.parametrize(
    ("name", "same", "expected"),
    [
        ("experiments/a_1/cells", True, "experiments/a_1/cells"),
        ("experiments/a_1/cells", False, "experiments/resumed_bbbbbbbb/cells"),
        ("../../x", True, "experiments/resumed_aaaaaaaa/resumed"),
        ("/x", True, "experiments/resumed_aaaaaaaa/resumed"),
        ("experiments/../../x", True, "experiments/resumed_aaaaaaaa/resumed"),
        ("workflow/scripts", True, "experiments/resumed_aaaaaaaa/resumed"),
        (["x"], True, "experiments/resumed_aaaaaaaa/resumed"),
    ],
)
def test_a_checkpoint_does_not_say_where_a_branch_is_published(project, capsys, name, same, expected):
    resume = importlib.import_module("resume_training")
    file = described(checkpoint_of(project, asked_by={"name": name}, hash="a" * 16))
    assert resume.output_of(file, Resumption(None, ("a" if same else "b") * 16, [])) == expected


@pytest.mark.parametrize("data", ["/etc", "../x", "prepared/../../x", None])
def test_a_checkpoint_does_not_name_data_outside_the_project(project, data):
    resume = importlib.import_module("resume_training")
    with pytest.raises(Refusal, match="outside this project"):
        resume.data_of(described(checkpoint_of(project, data=data)))


def test_a_branch_of_no_hash_is_not_published(project):
    resume = importlib.import_module("resume_training")
    with pytest.raises(Refusal, match="is none"):
        resume.published("../../x", "store")


@pytest.mark.parametrize("script", ["check_checkpoint", "interactive_inference"])
def test_a_link_in_a_store_is_not_followed_to_a_model_or_to_what_is_recorded_of_it(
    project, kept, place, plant, capsys, script
):
    model = to_bytes({"spec": json.loads(SPEC) | {"task": "language_model"}, "hash": NAME, "model": {}})
    kept.model.write_bytes(model)
    kept.metadata.rename(place / "elsewhere")
    plant(kept.metadata, place / "elsewhere")
    assert f"{kept.metadata}: is a link" in refused(project, capsys, script, kept.model, "--store", kept.store)
    kept.model.rename(place / "model")
    plant(kept.model, place / "model")
    assert f"{kept.model}: is a link" in refused(project, capsys, script, kept.model, "--store", kept.store)


def test_metadata_whose_two_specs_differ_is_refused(kept):
    """The one names the object, the other is what lists and planners read."""
    kept.metadata.write_text(json.dumps(json.loads(kept.metadata.read_text()) | {"spec": {"lr": 2.0}}))
    with pytest.raises(Refusal, match="its spec is not what its spec_json says"):
        kept.read()


def test_a_file_that_its_task_cannot_describe_hides_no_other(project, capsys, monkeypatch):
    for number in (1, 2):
        checkpoint_of(project, hash=str(number) * 16, spec={"task": "activity", "number": number})
        (project / f"store/{NAME}").rename(project / f"store/{str(number) * 16}")
    listing = importlib.import_module("list_checkpoints")

    def spec_of(spec):
        return spec if spec["number"] == 2 else None

    monkeypatch.setattr(listing, "spec_of", spec_of)
    monkeypatch.setattr(type(TASKS.find("activity")), "about", lambda self, spec: f"a\x1b[2J\nb{spec['number']}")
    monkeypatch.setattr(type(TASKS.find("activity")), "passes", lambda *_: None)
    status, out, err = ran(project, capsys, "list_checkpoints", "--store", "store")
    assert status == 0 and "a?[2J b2" in out and len(out.splitlines()) == 3
    assert err.startswith(f"store/{'1' * 16}/checkpoints/step_1.pt: left out, activity cannot say what it is")
    assert len(err.splitlines()) == 1


def test_what_a_job_left_commands_no_terminal(tmp_path):
    log = tmp_path / "log"
    log.write_text("Loss \x1b]0;title\x07\nepoch 1/2  loss \x1b[2J\n")
    job = JobStatus("n", "base", "failed", log, {"user": "\x1b[2J", "host": "h"}, log, log)
    assert "\x1b" not in "".join([job.where, job.progress(), *job.last_lines()])


def test_lists_of_models_follow_no_link(project, kept, place, plant, capsys):
    plant(kept.checkpoints, place)
    assert model_files(kept.store) == []
    assert f"{kept.checkpoints}: is a link" in capsys.readouterr().err


# What others write is read with care


@pytest.mark.parametrize("name", ["lock", "lock.holder", "metadata.json"])
def test_a_pipe_in_a_store_is_one_line_and_nothing_waits_for_it(project, people, kept, capsys, name):
    other = stored(kept.store, "0" * HASH_LENGTH)
    other.folder.mkdir()
    os.mkfifo(other.folder / name)
    project.study("s", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}})
    is_there = f"{other.folder / name}: is no regular file"
    for command, *more in (["list"], ["verify"], ["gc", "--configfile", "s.yaml"]):
        status, out, err = ran(project, capsys, "base_models", command, *more, "--store", kept.store)
        assert status == (command == "verify") and is_there in out and not err
    _, _, err = ran(project, capsys, "list_checkpoints", "--store", kept.store)
    assert is_there in err
    status, out, err = ran(project, capsys, "base_models", "forget", other.hash, "--store", kept.store)
    assert (status == 0 and not other.folder.exists()) if name == "metadata.json" else (status == 1 and is_there in err)


def test_a_pipe_in_the_place_of_a_users_record_is_one_line_and_the_list_goes_on(project, kept, capsys):
    (kept.store / "users").mkdir()
    os.mkfifo(kept.store / "users/x.json")
    status, out, err = ran(project, capsys, "base_models", "list", "--store", kept.store)
    first, about, total = out.splitlines()
    assert status == 0 and not err and "x.json: is no regular file" in first
    assert about.startswith(kept.hash) and total.startswith("1 objects")


def test_a_file_that_takes_all_memory_is_not_read(kept):
    with kept.metadata.open("w") as file:
        file.truncate(2**40)
    with pytest.raises(Refusal, match="has more than 16777216 bytes"):
        kept.read()
    (entry,) = inventory(kept.store)
    assert entry.state == "damaged" and "has more than" in entry.fault


ODD = {
    "a list": b"[]",
    "null": b'{"asked_by": null}',
    "a kind": b'{"kind": [1]}',
    "deep": b"[" * 200_000,
    "no UTF-8": b"\xff\xfe{",
    "a large number": b"9" * 5000,
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_metadata_is_one_line_and_the_list_goes_on(project, people, kept, capsys, content):
    other = stored(kept.store, "0" * HASH_LENGTH)
    other.folder.mkdir()
    other.metadata.write_bytes(content)
    project.study("s", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}})
    for command, *more in (["list"], ["verify"], ["gc", "--configfile", "s.yaml"]):
        status, out, err = ran(project, capsys, "base_models", command, *more, "--store", kept.store)
        assert status == (command == "verify") and not err
        assert len([line for line in out.splitlines() if str(other.metadata) in line]) == 1
        assert command != "list" or NAME in out
    for script, *more in (["base_models", "show", other.hash], ["list_checkpoints"]):
        status, _, err = ran(project, capsys, script, *more, "--store", kept.store)
        assert status == 1 and str(other.metadata) in err and "Traceback" not in err


@pytest.mark.parametrize("kind", [None, 1, ["base"], "a\nb"])
def test_metadata_that_names_no_kind_is_damaged(kept, kind):
    kept.metadata.write_text(json.dumps(json.loads(kept.metadata.read_text()) | {"kind": kind}))
    (entry,) = inventory(kept.store)
    assert entry.state == "damaged" and "names no kind" in entry.fault and "\n" not in entry.fault


@pytest.mark.parametrize(
    "lock", [b"\xff\xfe", b"a|%s|1000000000000000000000000000000|1", b"lock|\0|1|1", b"|" * 10**6], ids="abcd"
)
@pytest.mark.parametrize(
    "card", [b'{"user": "u", "since": Infinity}', b'{"user": "u", "since": 1e300}', b"[" * 200_000, b"[]"], ids="abcd"
)
def test_odd_locks_are_waited_for_and_taken_over(kept, lock, card):
    path = kept.folder / "lock"
    path.write_bytes(lock.replace(b"%s", socket.getfqdn().encode()))
    (kept.folder / "lock.holder").write_bytes(card)
    holder(path, kept.store)
    assert is_held(path, kept.store) is False
    for moment in (time.time() - 10**6, 1e12):
        os.utime(path, (moment, moment))
        is_held(path, kept.store)
    os.utime(path, (1, 1))
    entered(hold(path, kept.store, wait_seconds=1, say=lambda _: None))
    assert not path.exists()


@pytest.mark.parametrize("since", ["Infinity", "1e300", "-1e300", "NaN", '"x"', "[]"])
def test_an_odd_time_of_a_holder_is_left_out(kept, since):
    with hold(kept.folder / "lock", kept.store):
        (kept.folder / "lock.holder").write_text(f'{{"user": "u", "since": {since}}}')
        assert f"process {os.getpid()} on" in (holder(kept.folder / "lock", kept.store) or "")


@pytest.mark.parametrize("record", [b"[]", b'{"study": [1]}', b"[" * 200_000, b"\xff", None], ids="abcde")
def test_an_odd_record_of_a_user_is_one_line(project, people, kept, capsys, record):
    odd = {"project": "p", "study": [1], "person": "x", "reaches": [NAME]}
    (kept.store / "users").mkdir()
    (kept.store / "users/x.json").write_bytes(record or json.dumps(odd).encode())
    project.study("s", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}})
    for command, *more in (["list"], ["users"], ["show", kept.hash], ["gc", "--configfile", "s.yaml"]):
        status, out, err = ran(project, capsys, "base_models", command, *more, "--store", kept.store)
        told = out if command in ("list", "users") else err
        assert status == (command == "gc")  # what that record reaches is unknown, so nothing is freed
        assert len([line for line in told.splitlines() if "x.json: cannot be read" in line]) == 1
        assert command != "show" or json.loads(out)["used_by"] == []


def test_a_planted_checkpoint_does_not_cost_the_newest(kept):
    checkpoints = checkpoints_of(kept)
    kept.checkpoints.mkdir()
    for step in (10**9, 10**9 + 1, 10**9 + 2):
        (kept.checkpoints / f"step_{step}.json").write_text("{}")
    (kept.checkpoints / f"step_{10**9}.pt").mkdir()
    for step in (5, 6, 7):
        checkpoints.save(step, {"epoch": 1})
        assert (kept.checkpoints / f"step_{step}.pt").exists() and (kept.checkpoints / f"step_{step}.json").exists()
    names = {path.name for path in kept.checkpoints.iterdir()}
    assert names == {"step_6.pt", "step_6.json", "step_7.pt", "step_7.json", f"step_{10**9}.pt"}
    resumed = checkpoints_of(kept)
    assert resumed.load_latest() is not None
    resumed.save(8, {"epoch": 1})
    assert (kept.checkpoints / "step_7.pt").exists() and not (kept.checkpoints / "step_6.pt").exists()


# Signatures


@pytest.fixture
def pair(place):
    """A private and a public key, in files."""
    pytest.importorskip("cryptography", reason="not installed: requirements-signing.txt")
    for number in (1, 2):
        private, public = place / f"private{number}.pem", place / f"public{number}.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return place


def base_of(project, monkeypatch, **run) -> Job:
    """The job of one base training of a few steps."""
    monkeypatch.chdir(project.folder)
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0], "base": {"max_epochs": 1}}
    planned = plan(**study, run={"device": "cpu"} | run)
    (training,) = planned.bases.values()
    return replace(job_of(training), run=planned.study.run)


def test_a_signed_base_model_is_trusted_and_no_other(project, people, pair, monkeypatch):
    job = base_of(project, monkeypatch, sign_with=str(pair / "private1.pem"))
    model = Path(paths.base_model(job.hash))
    kept = train(job)
    kept.publish_base(model, paths.base_metadata(model))
    load = lambda key: loaded(model, job.hash, run=Run(trust=str(pair / key)))  # noqa: E731
    assert load("public1.pem")["hash"] == job.hash
    assert "sign_with" not in kept.read()["run"]
    with pytest.raises(Refusal, match=r"is not signed by the owner of run\.trust"):
        load("public2.pem")
    with pytest.raises(Refusal, match=r"no Ed25519 key|no key that can be read"):
        load("private1.pem")
    metadata = paths.base_metadata(model)
    forged = json.loads(metadata.read_text())
    model.unlink()
    model.write_bytes(to_bytes({"hash": job.hash, "spec": forged["spec"], "model": {}}))
    metadata.unlink()
    metadata.write_text(json.dumps(forged | {"model_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}))
    assert loaded(model, job.hash)["model"] == {}  # a checksum alone does not tell
    with pytest.raises(Refusal, match="is not signed by the owner"):
        load("public1.pem")
    del forged["signature"]
    metadata.write_text(json.dumps(forged | {"model_sha256": hashlib.sha256(model.read_bytes()).hexdigest()}))
    with pytest.raises(Refusal, match=r"is not signed; run\.trust"):
        load("public1.pem")


@pytest.mark.parametrize(
    ("trusts", "is_signed", "is_taken"), [(False, True, False), (True, False, False), (True, True, True)]
)
def test_what_a_stranger_left_under_a_former_name_is_not_signed(
    project, people, pair, monkeypatch, trusts, is_signed, is_taken
):
    """A store's index of former names is anybody's; a signature that it led to would vouch for anybody's model."""
    key = {"sign_with": str(pair / "private1.pem")}
    former = base_of(project, monkeypatch, **(key if is_signed else {}))
    train(replace(former, spec=former.spec.model_copy(update={"early_stopping_patience": 99})))  # as none
    wanted = base_of(project, monkeypatch, **key, **({"trust": str(pair / "public1.pem")} if trusts else {}))
    said = []
    train(replace(wanted, say=said.append))
    assert any("under its former name " in line and "in the store" in line for line in said) == is_taken
    assert any("not taken under its former name" in line for line in said) != is_taken
    assert any("epoch 1/" in line for line in said) != is_taken


def test_a_fine_tune_refuses_a_base_that_is_not_signed(project, people, pair, monkeypatch):
    base = base_of(project, monkeypatch)
    model = Path(paths.base_model(base.hash))
    train(base).publish_base(model, paths.base_metadata(model))
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0], "base": {"max_epochs": 1}}
    planned = plan(**study, finetune={"mode": "last_layer_only"}, run={"trust": str(pair / "public1.pem")})
    (tuned,) = planned.experiments.values()
    with pytest.raises(Refusal, match=r"is not signed; run\.trust"):
        train(replace(job_of(tuned), run=planned.study.run))


@pytest.mark.parametrize(("owner", "signs"), [("mine", False), ("theirs", True), ("theirs", False)])
def test_a_fine_tune_that_a_stranger_wrote_is_handed_out_only_where_it_is_signed(
    project, people, pair, monkeypatch, stranger, owner, signs
):
    monkeypatch.chdir(project.folder)
    run = {"trust": str(pair / "public1.pem")} | ({"sign_with": str(pair / "private1.pem")} if signs else {})
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0], "base": {"max_epochs": 1}}
    planned = plan(**study, finetune={"mode": "target_only"}, run=run | {"device": "cpu"})
    (tuned,) = planned.experiments.values()
    job = replace(job_of(tuned), run=planned.study.run)
    kept = train(job)
    kept.publish_experiment(Path("experiments/mine"))  # what we trained ourselves needs no signature
    if owner == "theirs":
        shutil.chown(kept.model, STRANGER)
    if owner == "mine" or signs:
        train(job).publish_experiment(Path("experiments/again"))
    else:
        with pytest.raises(Refusal, match=r"is not signed; run\.trust"):
            train(job).publish_experiment(Path("experiments/again"))
        assert not Path("experiments/again").exists()


def test_a_longer_training_refuses_a_shorter_one_that_is_not_signed(project, people, pair, monkeypatch):
    monkeypatch.chdir(project.folder)
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0], "base": {"max_epochs": [1, 2]}}
    planned = plan(**study, run={"trust": str(pair / "public1.pem"), "device": "cpu"})
    shorter, longer = sorted(planned.bases.values(), key=lambda training: training.continues or "")
    assert longer.continues == shorter.hash
    train(job_of(shorter))
    with pytest.raises(Refusal, match=r"is not signed; run\.trust"):
        train(replace(job_of(longer), continues=shorter.hash, run=planned.study.run))


@pytest.mark.parametrize("content", [None, "no key"])
def test_a_key_that_cannot_be_read_costs_no_training(project, people, pair, monkeypatch, content):
    if content:
        (pair / "broken.pem").write_text(content)
    with pytest.raises(Refusal, match=r"run\.sign_with: .* is no key that can be read") as refusal:
        train(base_of(project, monkeypatch, sign_with=str(pair / "broken.pem")))
    assert "\n" not in str(refusal.value) and not list(project.folder.glob("store/*/model.pt"))


def test_keys_are_no_part_of_a_hash(people):
    study = {"data": {"path": str(people)}, "base": {"max_epochs": 1}}
    assert list(plan(**study).bases) == list(plan(**study, run={"sign_with": "a", "trust": "b"}).bases)


# Several processes


def test_processes_of_a_training_meet_where_nothing_is_unpickled(project, people):
    """torchrun's dynamic rendezvous unpickles what anybody on the machine can write at its port."""
    flags = ("--fold", "0", "--data_path", "data/tiny", "--device", "cpu", "--max_epochs", "100000", "--processes", "2")
    process = start(project, *flags)
    try:
        wait_for_line(project, process, "(epoch|evaluation) 2/")
        keys = [key for port in ports_of(process.pid) for key in keys_at(port)]
        assert keys and not [key for key in keys if "rendezvous" in key]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ports_of(group: int) -> set[int]:
    """TCP ports at which processes of a group listen, as any user can see them."""
    listening = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                found |= {listening[link] for fd in (entry / "fd").iterdir() if (link := os.readlink(fd)) in listening}
        except OSError:
            continue
    return found


def keys_at(port: int) -> list[str]:
    from datetime import timedelta

    try:
        store = torch.distributed.TCPStore(
            "127.0.0.1", port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False
        )
        return list(store.list_keys())
    except (RuntimeError, ValueError):
        return []  # gloo's own port
