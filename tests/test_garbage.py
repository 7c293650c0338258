"""What no study and no user of a store reaches is freed, and nothing else; a dry run says exactly what would go."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, ran

from rootstock.store.garbage import find_garbage, remove
from rootstock.store.lock import hold
from rootstock.store.objects import stored
from rootstock.store.users import record_user, retire_user, users_of
from rootstock.study.identity import HASH_LENGTH, sha256_text
from rootstock.study.problems import Refusal


def keep(store, number: int):
    """A whole object; its name."""
    spec = json.dumps({"lr": number})
    kept = stored(store, sha256_text(spec)[:HASH_LENGTH])
    metadata = {"kind": "base", "metrics": {}, "history": [], "epochs": 1, "best_epoch": 1, "seconds": 0.1}
    kept.commit(b"weights" * number, metadata, spec)
    return kept


def test_only_what_nobody_reaches_is_garbage(tmp_path):
    mine, theirs, nobodys, old = (keep(tmp_path, number) for number in (1, 2, 3, 4))
    record_user(tmp_path, tmp_path / "elsewhere", "theirs", {theirs.hash})
    assert {item.entry.name for item in find_garbage(tmp_path, {mine.hash})} == {nobodys.hash, old.hash}
    for file in [old.folder, *old.folder.iterdir()]:
        os.utime(file, (1, 1))
    assert [item.entry.name for item in find_garbage(tmp_path, {mine.hash}, older_than=3600)] == [old.hash]
    record_user(
        tmp_path, tmp_path / "elsewhere", "theirs", {nobodys.hash}
    )  # its grid changed; the older one may come back
    assert {item.entry.name for item in find_garbage(tmp_path, {mine.hash})} == {old.hash}
    assert [user.study for user in users_of(tmp_path)] == ["theirs"]
    assert retire_user(tmp_path, tmp_path / "elsewhere", "theirs")
    record_user(tmp_path, tmp_path / "elsewhere", "theirs", {nobodys.hash})
    assert {item.entry.name for item in find_garbage(tmp_path, {mine.hash})} == {theirs.hash, old.hash}


def test_what_is_being_written_is_no_garbage_and_cannot_be_removed(tmp_path):
    kept = stored(tmp_path, "0" * HASH_LENGTH)
    with hold(kept.folder / "lock"):
        assert find_garbage(tmp_path, set()) == []
        with pytest.raises(Refusal, match=f"is being trained by process {os.getpid()}.*since"):
            remove(tmp_path, kept.hash)
    (unfinished,) = find_garbage(tmp_path, set())
    assert unfinished.entry.state == "unfinished"
    remove(tmp_path, kept.hash)
    assert not kept.folder.exists()


def test_checkpoints_that_a_whole_object_no_longer_needs_are_garbage(tmp_path):
    kept = keep(tmp_path, 1)
    kept.checkpoints.mkdir()
    (kept.checkpoints / "step_1.pt").write_bytes(b"x" * 100)
    (item,) = find_garbage(tmp_path, {kept.hash})
    assert item.only_checkpoints and item.size == 100
    kept.clear_checkpoints()
    assert kept.is_whole() and find_garbage(tmp_path, {kept.hash}) == []


def test_a_record_that_cannot_be_read_stops_the_collection(tmp_path):
    keep(tmp_path, 1)
    (tmp_path / "users").mkdir()
    (tmp_path / "users/broken.json").write_text("{")
    with pytest.raises(Refusal, match=r"broken\.json: cannot be read"):
        find_garbage(tmp_path, set())


@pytest.mark.workflow
def test_gc_frees_what_it_said_and_keeps_what_a_study_reaches(project, people):
    study = {"data": {"path": "data/tiny"}, "folds": [0], "base": {"max_epochs": 1}, "finetune": {"mode": "base_only"}}
    project.study("first", study)
    project.study("second", study | {"base": {"max_epochs": 1, "lr": [0.1, 0.2]}})
    for name in ("first", "second"):
        project.snakemake("--configfile", f"{name}.yaml")
    held = stored_names(project)
    assert len(held) == 6
    assert "used by first" in project.script("base_models", "list").stdout
    done = project.script("base_models", "gc", check=False)
    assert done.returncode == 1 and done.stderr.startswith("--configfile: missing")
    first = ("--configfile", "first.yaml")
    assert "0 to free" in project.script("base_models", "gc", *first).stdout  # `second` ran here: it is a user
    project.script("base_models", "retire", "second")
    said = project.script("base_models", "gc", *first).stdout
    (copies,) = (line for line in said.splitlines() if line.startswith("published copies stay"))
    assert copies.count("base_models/") == copies.count("experiments/") == 2
    assert said.count("would free") == 4 and "say --yes" in said and stored_names(project) == held
    assert "0 to free" in project.script("base_models", "gc", *first, "--older-than", "1d", "--yes").stdout
    done = project.script("base_models", "gc", *first, "--yes").stdout
    assert done.replace("freed", "would free").splitlines()[:4] == said.splitlines()[:4]
    assert len(stored_names(project)) == 2
    again = project.snakemake("--configfile", "first.yaml")
    assert "Nothing to be done" in again.stderr + again.stdout


def test_what_stays_published_of_a_forgotten_model_is_said(project, people, capsys):
    study = {"data": {"path": "data/tiny"}, "folds": [0], "base": {"max_epochs": 1}, "finetune": {"mode": "base_only"}}
    project.publish_here(study)
    (base,) = (path.stem for path in project.folder.glob("base_models/*.pt"))
    project.study("other", study | {"base": {"max_epochs": 2}})
    gc = ("base_models", "gc", "--configfile", "other.yaml")
    line = f"published copies stay, and hold their disk space until they are deleted too: base_models/{base}.pt"
    assert line in ran(project, capsys, *gc)[1]
    _, said, _ = ran(project, capsys, "base_models", "forget", base)
    assert (
        said == f"forgot {base}\npublished copies stay, and a run uses them: delete them too: base_models/{base}.pt\n"
    )
    shutil.rmtree(project / "base_models")
    assert "published copies" not in ran(project, capsys, *gc)[1]


def test_a_record_of_a_project_that_moved_is_retired_by_its_path(project, capsys, monkeypatch):
    record_user(project / ".rootstock/store", Path("/gone/a project"), "mine", {"a" * 16})
    status, _, err = ran(project, capsys, "base_models", "retire", "mine")
    assert status == 1 and "this project" in err and "retire mine --project '/gone/a project'" in err
    status, said, _ = ran(project, capsys, "base_models", "retire", "mine", "--project", "/gone/a project/")
    assert status == 0 and said.startswith("retired mine") and users_of(project / ".rootstock/store") == []


def stored_names(project) -> list[str]:
    return sorted(path.parent.name for path in project.folder.glob(".rootstock/store/*/metadata.json"))


def test_a_list_outside_a_project_says_so(project, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    script = ROOT / "workflow/scripts/base_models.py"
    run = lambda folder: subprocess.run([sys.executable, script, "list"], cwd=folder, capture_output=True, text=True)  # noqa: E731
    away, here = run(tmp_path / "elsewhere"), run(project.folder)
    assert away.returncode == 1 and "no such folder; run this in the project's folder" in away.stderr
    assert here.returncode == 0 and here.stdout.startswith("0 objects")
