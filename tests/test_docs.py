"""The documents: their links lead somewhere, their commands are true, their lines are short, what is generated is current."""

import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT, Project, variables

sys.path.insert(0, str(ROOT / "docs"))
import commands
import site_of_documents

PAGES = [
    *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "config/README.md",
    ROOT / "profiles/README.md", ROOT / "benchmarks/README.md",
]  # fmt: skip
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^(?:<!-- needs: (?P<needs>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
NEEDS = {  # why a test cannot run the commands that stand below `<!-- needs: … -->`
    "minutes": "takes minutes; the studies are planned in test_studies.py and such ones run in test_workflow.py",
    "slurm": "needs a Slurm cluster; test_slurm.py has one and runs studies on it",
    "servers": "needs servers; test_cluster.py runs cluster.py on servers of its own",
    "gpu": "needs a GPU",
    "a clean checkout": "writes what test_studies.py and this file compare",
    "network": "installs or asks over the network",
    "install": "installs into .venv, which all tests share; test_library.py installs into a folder of its own",
    "graphviz": "needs dot; test_workflow.py makes the text that dot draws",
    "container": "needs podman or docker, and Apptainer",
    "data of its own": "needs data and the hash that was printed; test_by_hand.py trains with these flags",
    "a finished run": "needs a finished run; test_workflow.py makes this report of one",
    "results of two studies": "needs two finished studies; test_page.py compares two",
    "a trained model": "needs a trained model; test_language_tools.py and test_generation.py have one",
    "its own test": "test_own_task.py pastes it, test_deploy.py runs every way of docs/deploy.md",
}
RUN = [name for name in NAMES if any(one["language"] in ("sh", "console") and one["needs"] is None
                                     for one in FENCE.finditer((ROOT / name).read_text()))]  # fmt: skip


def prose(text: str) -> list[str]:
    """Lines that are neither code nor part of a table nor a comment, links without what they lead to."""
    lines = FENCE.sub("", text).splitlines()
    return [re.sub(r"\]\([^)]*\)", "]", line) for line in lines if not line.lstrip().startswith(("|", "<!--"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_prose_is_long(name):
    assert not [line for line in prose((ROOT / name).read_text()) if len(line) > 120]


def test_the_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if not target.startswith(("http:", "https:", "mailto:")):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_every_page_is_in_the_guide():
    guide = (ROOT / "docs/README.md").read_text()
    pages = {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"}
    assert not [page for page in pages if f"]({page})" not in guide]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """What the site is built from, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    site_of_documents.copy_pages(ROOT, folder)
    shutil.copy(ROOT / "zensical.toml", folder)
    (folder / "workflow").symlink_to(ROOT / "workflow")
    return folder


@pytest.mark.skipif(not find_spec("zensical") or not find_spec("mkdocstrings"), reason="needs requirements-docs.txt")
def test_the_site_builds_strictly_and_a_dead_link_fails(checkout):
    done = site_of_documents.build(checkout)
    assert done.returncode == 0 and "No issues found" in done.stdout, done.stdout
    assert "own_class" in (checkout / "build/site/docs/api/index.html").read_text()  # of a docstring
    with open(checkout / "docs/slurm.md", "a") as page:
        page.write("[a](nowhere.md)")
    assert site_of_documents.build(checkout).returncode


def test_the_reference_of_commands_is_the_generated_one():
    assert commands.PAGE.read_text() == commands.page(), "run: python docs/commands.py"


@cache
def help_of(script: str) -> str:
    return commands.help_of(script)


@pytest.mark.parametrize("name", NAMES)
def test_scripts_and_flags_that_a_page_names_are_there(name):
    """In code of any kind, also where no test can run it."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    code = [one["body"] for one in FENCE.finditer(text)] + re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in "\n".join(code).splitlines():
        for script, flags in re.findall(r"(?:^|[\s/])(\w+)\.py((?: [^|>#]*)?)", line):
            if script in commands.SCRIPTS:
                found = re.findall(r"(?<!\S)--[a-z][\w-]*", flags)
                assert not [flag for flag in found if flag not in help_of(script)], line
            assert "scripts/" + script not in line or script in commands.SCRIPTS, line
        for study in re.findall(r"config/studies/\w{2,}\.yaml", line):
            assert (ROOT / study).exists(), line


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_needs_to_be_run_has_a_reason(name):
    assert {one["needs"] for one in FENCE.finditer((ROOT / name).read_text())} <= {None, *NEEDS}


@pytest.mark.parametrize("name", NAMES)
def test_every_block_says_its_language_so_that_no_command_is_missed(name):
    found = {one["language"] for one in FENCE.finditer((ROOT / name).read_text())}
    assert found <= {"sh", "console", "python", "yaml", "json", "text", "mermaid"}


@pytest.fixture
def clone(tmp_path) -> Project:
    """What a user's clone has after `make` has installed everything: here the packages of these tests."""
    folder = tmp_path / "clone"
    folder.mkdir()
    project = Project(folder)
    for name in ("Makefile", "requirements.txt", "tests", "benchmarks", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("installed"):
            (folder / ".venv" / path.name).symlink_to(path)
    for stamp in ("installed", "installed-activity", "installed-tests"):
        (folder / ".venv" / stamp).touch()
    return project


def paste(project: Project, body: str) -> str:
    """What a shell prints that runs the commands of a block and stops at the first that fails."""
    shell = ["bash", "-e", "-o", "pipefail", "-c", body]
    done = subprocess.run(
        shell, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables()
    )
    assert done.returncode == 0, f"{body}\n{done.stdout[-3000:]}"
    return done.stdout


@pytest.mark.workflow
@pytest.mark.parametrize("name", [name for name in RUN if name != "docs/first_study.md"])
def test_the_commands_of_a_page_run_when_they_are_pasted(clone, name):
    for one in FENCE.finditer((ROOT / name).read_text()):
        if one["language"] == "sh" and one["needs"] is None:
            paste(clone, one["body"])
        if one["language"] == "console" and one["needs"] is None:
            command, _, printed = one["body"].removeprefix("$ ").partition("\n")
            assert paste(clone, command).startswith(printed)


@pytest.mark.workflow
def test_the_tutorial_works_from_its_beginning_to_its_end(clone):
    blocks = list(FENCE.finditer((ROOT / "docs/first_study.md").read_text()))
    assert all(one["language"] == "sh" and one["needs"] is None for one in blocks)
    studies, _, check, dry, run, answer, _, extended, again, back, listed, used = (
        paste(clone, one["body"]) for one in blocks
    )
    assert "quick_test" in studies and check.endswith("\nok\n") and answer.startswith("Fine-tuning on ")
    assert "1 prepare, 6 train_base, 18 train_finetune, 1 summarise, 1 report" in dry and "page: results/my" in run
    assert "12 train_finetune, 1 summarise" in extended and "train_base" not in extended + again
    assert "36 of 36 trainings already in the store" in back and "my_study" in listed
    computed, recorded = re.findall(r"(?:computed|recorded) (.*)", used)
    assert computed == recorded
