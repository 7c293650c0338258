"""The workflow deployed as Snakemake's workflows are: from a folder that has no more than a study and, as a module, a Snakefile."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, plan
from tiny import TINY

BIN = Path(sys.executable).parent
MODULE = """
configfile: "config/config.yaml"

module rootstock:
    snakefile: {where}
    config: config

use rule * from rootstock

onstart:
    print("a handler of the user's own")
"""
TWO = """
module first:
    snakefile: {where!r}
    config: {first}

use rule * from first as first_*

module second:
    snakefile: {where!r}
    config: {second}

use rule * from second as second_*

rule all:
    input: rules.first_all.input, rules.second_all.input
    default_target: True
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """One for all ways: what the first one trained is handed back to the others, for the hashes are the same."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture
def study(store) -> dict:
    return TINY["activity"].content({"base": {"max_epochs": 1}, "finetune": {"max_epochs": 1}}) | {"store": str(store)}


@pytest.fixture
def folder(tmp_path, study) -> Path:
    """A user's folder: a study and its data, nothing of ours."""
    folder = tmp_path / "user's folder"
    TINY["activity"].write(folder / "data/tiny")
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(json.dumps({"study": "mine"} | study))
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """What a git repository of this workflow has, with a tag; its path is as on a host that is called github."""
    repository = tmp_path_factory.mktemp("github") / "owner/rootstock"
    for name in ("workflow", "profiles", "config"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, repository / name, symlinks=True, ignore=skipped)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "-m", "a"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    return repository


def run(folder: Path, *flags: str, cwd: Path | None = None, **environment: str) -> str:
    command = [str(BIN / "snakemake"), "--cores", "2", *flags]
    done = subprocess.run(
        command, cwd=cwd or folder, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def complete(folder: Path, study: dict, *flags: str, **more) -> str:
    """Run to the end, twice: the second finds nothing to do. What the first said."""
    said = run(folder, *flags, **more)
    with contextlib.chdir(folder):
        planned = plan(**study)
    assert {path.stem for path in (folder / "base_models").glob("*.pt")} == set(planned.bases)
    assert all((folder / one.path / "metrics.json").exists() for one in planned.experiments.values())
    assert list((folder / "results").glob("*/report.html")) and list((folder / "results").glob("*/run_log.json"))
    assert "Nothing to be done" in run(folder, "--dry-run", *flags, **more)
    return said


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_its_snakefile_from_elsewhere(folder, study, snakefile):
    said = complete(folder, study, "--snakefile", str(ROOT / snakefile))
    assert "without Rootstock's settings" not in said


def test_a_directory_of_snakemakes(folder, study, tmp_path):
    complete(folder, study, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]


def test_a_module_by_a_path_says_that_the_profile_is_not_there_and_keeps_the_users_handlers(folder, study):
    (folder / "Snakefile").write_text(MODULE.format(where=repr(str(ROOT / "workflow/Snakefile"))))
    said = complete(folder, study)
    assert "--workflow-profile" in said and "a handler of the user's own" in said and "page: results/mine" in said


def test_a_module_by_a_commit_of_a_git_repository(folder, study, repository):
    (folder / "Snakefile").write_text(MODULE.format(where=repr(f"git+file://{repository}/workflow/Snakefile@v1")))
    complete(folder, study)
    (unpacked,) = (folder / f".rootstock/workflow-{os.getuid()}").iterdir()
    assert (unpacked / "workflow/scripts/train_base.py").exists() and len(unpacked.name) == 40


@pytest.mark.parametrize("is_above", [False, True])
def test_a_planted_folder_in_the_place_of_the_code_is_not_read(folder, repository, tmp_path, is_above):
    commit = subprocess.run(["git", "rev-parse", "v1"], cwd=repository, check=True, capture_output=True, text=True)
    users, theirs = folder / f".rootstock/workflow-{os.getuid()}", commit.stdout.strip()
    place = users if is_above else users / theirs
    place.parent.mkdir(parents=True)
    (tmp_path / "theirs" / (theirs if is_above else ".") / "workflow/scripts/rootstock").mkdir(parents=True)
    place.symlink_to(tmp_path / "theirs")
    (folder / "Snakefile").write_text(MODULE.format(where=repr(f"git+file://{repository}/workflow/Snakefile@v1")))
    done = subprocess.run([str(BIN / "snakemake"), "-n"], cwd=folder, capture_output=True, text=True)
    assert done.returncode and "is a link or another user's" in done.stdout + done.stderr


def test_deployed_by_snakedeploy(folder, study, repository, tmp_path):
    """Snakemake finds its clone of the repository in its cache, for here is no host of that name."""
    place = tmp_path / "cache/snakemake/snakemake/source-cache/snakemake-git-cache/github.com/owner"
    place.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(repository), str(place / "rootstock")], check=True)
    deployed = tmp_path / "deployed"
    words = ["deploy-workflow", f"file://{repository}", str(deployed), "--tag", "v1"]
    subprocess.run([str(BIN / "snakedeploy"), *words], check=True, capture_output=True)
    for name in ("config/config.yaml", "data"):
        shutil.move(folder / name, deployed / name)
    said = complete(deployed, study, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert "without Rootstock's settings" not in said  # snakedeploy copies the profiles


def test_two_modules_side_by_side_share_what_both_ask_for(folder, study):
    second = study | {"finetune": study["finetune"] | {"lr": 0.02}}
    where = str(ROOT / "workflow/Snakefile")
    (folder / "Snakefile").write_text(TWO.format(where=where, first=study, second=second))
    said = run(folder)
    assert "1 first_train_base" in said and "second_train_base" not in said
    for name, asked in (("first", study), ("second", second)):
        with contextlib.chdir(folder):
            (one,) = plan(**asked).experiments.values()
        log = json.loads((folder / f"results/{name}/run_log.json").read_text())
        tuned = [job["config"]["lr"] for job in log["results"] if job["phase"] == "finetune"]
        assert tuned == [one.spec.lr] and (folder / f"results/{name}/report.html").exists()
    assert "Nothing to be done" in run(folder, "--dry-run")


@pytest.mark.parametrize("change, told", [({"study": "same"}, "both called same"), ({"folds": [1]}, "other units")])
def test_two_modules_that_would_make_one_anothers_files_are_refused(folder, study, change: dict, told: str):
    first = study | {"study": change.get("study", "one")}
    second = first | {"study": "two"} | change
    where = str(ROOT / "workflow/Snakefile")
    (folder / "Snakefile").write_text(TWO.format(where=where, first=first, second=second))
    done = subprocess.run([str(BIN / "snakemake"), "-n"], cwd=folder, capture_output=True, text=True)
    assert done.returncode and told in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_container_file_has_no_fault():
    done = subprocess.run([str(BIN / "hadolint"), str(ROOT / "Containerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_each_job_is_started_in_the_image_when_the_profile_says_so(folder, study, tmp_path):
    """By an apptainer that notes the image and runs the command outside, for here is no real one."""
    script = '#!/bin/bash\n[ "$1" = --version ] && exec echo apptainer version 1.4.0\n'
    script += 'while [[ "$1" != *.sif ]]; do shift; done\necho "$1" >> apptainer.log\nshift\nexec "$@"\n'
    (tmp_path / "apptainer").write_text(script)
    (tmp_path / "apptainer").chmod(0o755)
    (folder / "rootstock.sif").touch()
    flags = ["--snakefile", str(ROOT / "Snakefile"), "--software-deployment-method", "apptainer"]
    complete(folder, study, *flags, PATH=f"{tmp_path}:{os.environ['PATH']}")
    images = (folder / "apptainer.log").read_text().split()
    assert len(images) == 4 and {Path(image).name for image in images} == {"rootstock.sif"}
