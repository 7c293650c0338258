"""The store: whole or absent, one writer, never trusted unread."""

import itertools
import json
import multiprocessing
import os
import subprocess
import threading
import time
from datetime import timedelta

import pytest
from flufl.lock import SEP

from rootstock.machine.private import opened
from rootstock.machine.this import this_machine
from rootstock.store.files import link_or_copy, write_atomically
from rootstock.store.lock import hold, holder, is_held
from rootstock.store.objects import stored
from rootstock.study.identity import HASH_LENGTH, sha256_text, short_digest
from rootstock.study.problems import Refusal

SPEC = '{"lr":1.0}'
NAME = sha256_text(SPEC)[:HASH_LENGTH]


@pytest.fixture
def kept(tmp_path):
    kept = stored(tmp_path / "store", NAME)
    kept.commit(b"weights", {"metrics": {"a": 1}, "history": [], "epochs": 1, "best_epoch": 1, "seconds": 0.1}, SPEC)
    return kept


def test_a_committed_object_reads_back_and_publishes(kept, tmp_path):
    assert kept.is_whole() and kept.read()["spec"] == {"lr": 1.0}
    kept.publish_base(tmp_path / "p/m.pt", tmp_path / "p/m_metadata.json")
    assert (tmp_path / "p/m.pt").read_bytes() == b"weights"
    assert sorted(os.listdir(tmp_path / "p")) == ["m.pt", "m_metadata.json"]
    kept.publish_base(tmp_path / "p/m.pt", tmp_path / "p/m_metadata.json")  # again, over itself
    assert sorted(os.listdir(tmp_path / "p")) == ["m.pt", "m_metadata.json"]


def test_what_a_killed_process_left_beside_a_file_goes_when_the_file_is_written(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = short_digest(this_machine())
    dead, alive, elsewhere, other = (
        tmp_path / name
        for name in (
            f".a.json.{host}.{gone.pid}.0a1b", f".a.json.{host}.{os.getpid()}.0a1b", f".a.json.x{host}.{gone.pid}.0a1b", ".a.json.note",
        )
    )  # fmt: skip
    for left in (dead, alive, elsewhere, other):
        left.touch()
    write_atomically(tmp_path / "a.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", alive.name, elsewhere.name, other.name}


@pytest.mark.parametrize("pid", ["²", "9" * 30, "-1", "x"])
def test_an_odd_name_beside_a_file_costs_no_training(tmp_path, pid):
    left = tmp_path / f".a.json.{short_digest(this_machine())}.{pid}.x"
    left.touch()
    write_atomically(tmp_path / "a.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", left.name}


def test_a_folder_beside_a_file_costs_no_training(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = tmp_path / f".a.json.{short_digest(this_machine())}.{gone.pid}.0a1b"
    left.mkdir()
    write_atomically(tmp_path / "a.json", b"new")
    assert left.is_dir() and (tmp_path / "a.json").read_bytes() == b"new"


def test_an_experiment_is_published_with_its_marker_last(kept, tmp_path):
    kept.publish_experiment(tmp_path / "e")
    assert sorted(os.listdir(tmp_path / "e")) == ["best_model.pt", "config.json", "losses.json", "metrics.json"]
    assert json.loads((tmp_path / "e/metrics.json").read_text())["hash"] == NAME


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda k: k.model.write_bytes(b"weightS"), "damaged"),
        (lambda k: k.model.write_bytes(b"wei"), "damaged"),
        (lambda k: k.model.unlink(), "cannot be read"),
        (lambda k: k.metadata.write_text("{"), "cannot be read"),
        (lambda k: k.metadata.unlink(), "missing"),
        (lambda k: k.metadata.write_text('{"format": 99}'), "not of format"),
        (lambda k: k.metadata.write_text(k.metadata.read_text().replace("1.0", "2.0")), "its spec hashes to"),
    ],
)
def test_a_damaged_object_is_refused_and_not_published(kept, tmp_path, damage, reason):
    damage(kept)
    with pytest.raises(Refusal, match=reason) as refusal:
        kept.publish_base(tmp_path / "p/m.pt", tmp_path / "p/m_metadata.json")
    assert "\n" not in str(refusal.value) and not (tmp_path / "p").exists()


def test_an_object_under_another_name_is_refused(kept):
    other = kept.folder.rename(kept.folder.with_name("0" * HASH_LENGTH))
    with pytest.raises(Refusal, match="renamed or edited"):
        stored(other.parent, other.name).read()


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_a_copy_serves_where_links_are_not_allowed(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    with opened(tmp_path / "a") as file:
        link_or_copy(file, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x" and sorted(os.listdir(tmp_path)) == ["a", "b"]


def _hold_for(path, seconds, started):
    with hold(path):
        started.set()
        time.sleep(seconds)


def _hold_and_die(path):
    context = hold(path)
    context.__enter__()
    os._exit(1)


def _spawn(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def test_a_second_writer_waits_and_is_told_who_writes(tmp_path):
    path, started, heard = tmp_path / "o/lock", multiprocessing.get_context("fork").Event(), []
    other = _spawn(_hold_for, path, 1.0, started)
    assert started.wait(10) and is_held(path) and f"process {other.pid}" in holder(path)
    with hold(path, say=heard.append):
        assert not other.is_alive() or other.join(5) is None
    assert len(heard) == 1 and f"process {other.pid}" in heard[0]
    assert holder(path) is None and not is_held(path)


def test_a_second_writer_gives_up_when_its_time_is_up(tmp_path):
    path, started = tmp_path / "o/lock", multiprocessing.get_context("fork").Event()
    other = _spawn(_hold_for, path, 30, started)
    assert started.wait(10)
    with pytest.raises(Refusal, match=f"held by process {other.pid}"), hold(path, wait_seconds=0.5, say=lambda _: None):
        pass
    other.terminate()
    other.join()


def test_the_lock_of_another_host_counts_while_it_gives_signs_of_life(tmp_path):
    path = tmp_path / "o/lock"
    path.parent.mkdir()
    path.write_text(SEP.join((str(path.resolve()), "elsewhere", "4242", "1")))
    os.utime(path, (time.time() + 60,) * 2)  # refreshed until a minute from now
    assert is_held(path)
    with (
        pytest.raises(Refusal, match="held by process 4242 on elsewhere"),
        hold(path, wait_seconds=0.5, say=lambda _: None),
    ):
        pass
    os.utime(path, (time.time() - 60,) * 2)  # gone stale a minute ago
    assert not is_held(path)
    with hold(path, wait_seconds=1):
        assert f"process {os.getpid()}" in holder(path)


def test_the_lock_of_a_dead_process_is_taken_at_once(tmp_path):
    path = tmp_path / "o/lock"
    dead = _spawn(_hold_and_die, path)
    dead.join()
    assert path.exists() and not is_held(path)
    started = time.monotonic()
    with hold(path, wait_seconds=1):
        assert f"process {os.getpid()}" in holder(path)
    assert time.monotonic() - started < 30
    assert os.listdir(path.parent) == []


def test_the_lock_of_another_machine_of_the_same_name_counts(tmp_path):
    """Where a host's name stands for 127.0.0.1 all machines are called localhost, and a process id says nothing."""
    path = tmp_path / "o/lock"
    dead = _spawn(_hold_and_die, path)
    dead.join()
    card = path.with_name("lock.holder")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"machine": "another boot"}))
    assert is_held(path)
    with pytest.raises(Refusal, match="held by process"), hold(path, wait_seconds=0.5, say=lambda _: None):
        pass


def test_a_lock_from_the_future_is_taken_over_once_it_gives_no_sign_of_life(tmp_path, monkeypatch):
    """Of a machine whose clock was wrong by days: its time would keep everybody waiting for days."""
    monkeypatch.setattr("rootstock.store.lock.LIFETIME", timedelta(seconds=1))
    monkeypatch.setattr("rootstock.store.lock.POLL", timedelta(seconds=0.1))
    path, ahead = tmp_path / "o/lock", time.time() + 10 * 86400
    path.parent.mkdir()
    path.write_text(SEP.join((str(path.resolve()), "elsewhere", "4242", "1")))
    os.utime(path, (ahead, ahead))
    over = threading.Event()

    def beat():
        for second in itertools.count():
            if over.wait(0.1):
                return
            os.utime(path, (ahead + second,) * 2)

    heart = threading.Thread(target=beat)
    heart.start()
    with pytest.raises(Refusal, match="held by process 4242"), hold(path, wait_seconds=3, say=lambda _: None):
        pass
    over.set()
    heart.join()
    with hold(path, wait_seconds=60, say=lambda _: None):
        assert f"process {os.getpid()}" in holder(path)


def test_who_lost_a_lock_is_told(tmp_path, monkeypatch):
    """As after a long sleep, in which somebody else broke the lock and took it."""
    monkeypatch.setattr("rootstock.store.lock.LIFETIME", timedelta(seconds=0.6))
    path, lost, said = tmp_path / "o/lock", threading.Event(), []
    with hold(path, say=said.append, lost=lost.set):
        path.unlink()
        path.write_text(SEP.join((str(path.resolve()), "elsewhere", "4242", "1")))
        assert lost.wait(10)
    assert "taken over by process 4242 on elsewhere" in said[0]
    assert path.read_text().count("elsewhere") == 1  # theirs stays


def test_what_is_whole_is_not_written_again(kept):
    before = kept.metadata.read_text()
    kept.commit(b"other weights", {"metrics": {}, "history": [], "epochs": 2, "best_epoch": 1, "seconds": 0.1}, SPEC)
    assert kept.metadata.read_text() == before and kept.model.read_bytes() == b"weights"
