"""A store on a disk that is full, read-only or not readable: one clear line, nothing overwritten, nothing half-written."""

import os
import pickle
import subprocess
from pathlib import Path

import pytest

FLAGS = ("--fold", "0", "--data_path", "data/tiny", "--max_epochs", "2")
WIDE = ("--base_channels", "256")  # a model of some megabytes


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, mounted for one test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def one_line(done, *words: str) -> None:
    """The job failed with a single line for its user."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_full_disk_ends_the_job_with_a_line_and_leaves_what_was_there(project, people, small_disk):
    project.here("train_base", *FLAGS, "--store", small_disk)
    before = files(small_disk)
    done = project.script("train_base", *FLAGS, *WIDE, "--store", small_disk, check=False)
    one_line(done, "No space left on device", "free some space")
    assert {name: content for name, content in files(small_disk).items() if name in before} == before
    assert not any(".pt" in name for name in files(small_disk).keys() - before.keys())
    assert len(list(project.folder.glob("base_models/*.pt"))) == 1
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    project.script("train_base", *FLAGS, *WIDE, "--store", small_disk)  # with space again it is whole
    assert len(list(small_disk.glob("*/metadata.json"))) == 2


def test_a_read_only_store_hands_out_what_it_has_and_takes_nothing(project, people, small_disk):
    project.here("train_base", *FLAGS, "--store", small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = files(small_disk)
    for published in project.folder.glob("base_models/*"):
        published.unlink()
    assert "nothing to train" in project.script("train_base", *FLAGS, "--store", small_disk).stdout
    done = project.script("train_base", *FLAGS, "--lr", "0.5", "--store", small_disk, check=False)
    one_line(done, "Read-only file system", "can be written")
    assert files(small_disk) == before
    assert project.script("base_models", "verify", "--store", small_disk).stdout == "all whole\n"


def test_a_project_folder_that_is_read_only_says_so(project, people, small_disk):
    (small_disk / "base_models").mkdir()
    (project / "base_models").symlink_to(small_disk / "base_models")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    one_line(project.script("train_base", *FLAGS, check=False), "Read-only file system")
    assert list(project.folder.glob(".rootstock/store/*/metadata.json"))  # trained and kept: only the publishing failed


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda model: model.write_bytes(model.read_bytes()[:-20]), ("damaged", "forget")),
        (
            lambda model: model.write_bytes(model.read_bytes()[:99] + b"!" + model.read_bytes()[100:]),
            ("damaged", "forget"),
        ),
        (lambda model: model.write_bytes(pickle.dumps(Path)), ("damaged", "forget")),
        (lambda model: model.unlink(), ("cannot be read", "forget")),
        (lambda model: (model.unlink(), model.mkdir()), ("is no regular file", "delete it")),
        (lambda model: model.with_name("metadata.json").write_text("[]"), ("no JSON object", "forget")),
        (lambda model: model.parent.rename(model.parent.with_name("0" * 16)), ("renamed or edited",)),
    ],
    ids=["truncated", "flipped", "code", "gone", "unreadable", "metadata", "renamed"],
)
def test_a_fault_of_a_stored_base_is_told_and_nothing_is_published(project, people, damage, words):
    project.here("train_base", *FLAGS)
    (model,) = project.folder.glob(".rootstock/store/*/model.pt")
    name = model.parent.name
    for published in project.folder.glob("base_models/*"):
        published.unlink()
    damage(model)
    if not model.parent.exists():
        name = "0" * 16
    flags = ("--fold", "0", "--data_path", "data/tiny", "--base_model_hash", name, "--mode", "base_only")
    one_line(project.script("train_finetune", *flags, check=False), *words)
    assert not list(project.folder.glob("experiments/**/*.json")) and os.listdir(project / "base_models") == []
    done = project.script("base_models", "verify", check=False)
    assert done.returncode == 1 and done.stdout.endswith("1 damaged\n") and not done.stderr
