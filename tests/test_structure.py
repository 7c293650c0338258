"""The house: imports go downward only, no word of one task stands outside its folder, nothing is too long to read."""

import ast
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import rootstock
from rootstock.study.parts import PARTS
from rootstock.tasks.registry import BUILT_IN

PACKAGE = ROOT / "workflow/scripts/rootstock"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
# From the entry down, as `rootstock/__init__.py` tells: a room imports from rooms below it and from no other.
FLOORS = (
    ("controller", "commands"),
    ("slurm",),
    ("cluster",),
    ("job",),
    ("warm",),
    ("tasks",),
    ("results",),
    ("engine",),
    ("store",),
    ("machine",),
    ("study",),
)
TABLES = {"slurm_conf"}  # functions that are one table, which splitting would hide
WORDS = r"\b(folds?|participants?|smartwatch|n_base_participants|target_data_pct|ontolog\w+|teacher|student|domains?)\b"


def imports_of(file: Path) -> set[str]:
    """The rooms that a module of the package imports from, lazily or not."""
    here = file.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = here[: len(here) - node.level]
            parts = [*above, *(node.module or "").split(".")] if node.module else [*above, node.names[0].name]
            found.add(parts[0] if parts[0] else node.names[0].name)
    return found - {"__version__"}


def test_imports_go_downward_only():
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
    upward = []
    for file in MODULES:
        room = file.relative_to(PACKAGE).parts[0]
        if room == "__init__.py":
            continue  # the entry of the package: it offers what is below
        upward += [f"{file.relative_to(PACKAGE)} imports {other}" for other in imports_of(file) - {room}
                   if floor[other] <= floor[room]]  # fmt: skip
    assert not upward


def test_every_room_says_who_lives_there():
    rooms = {file.relative_to(PACKAGE).parts[0] for file in MODULES} - {"__init__.py"}
    assert rooms == {room for rooms in FLOORS for room in rooms}
    for file in MODULES:
        if "tests" not in file.parts:
            assert ast.get_docstring(ast.parse(file.read_text())), file


def test_study_knows_no_task_and_planning_one_loads_no_other():
    code = (
        "import sys, rootstock.study.planner, rootstock.study.schema, rootstock.study.contract\n"
        "assert not [name for name in sys.modules if name.startswith('rootstock.tasks')]\n"
        "from rootstock.controller.planning import plan_content\n"
        "plan_content({'study': 's'})\n"
        "others = [name for name in sys.modules if name.startswith(('rootstock.tasks.dist', 'rootstock.tasks.lang'))]\n"
        "assert not others, others\n"
        "heavy = {'torch', 'pandas', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_word_of_one_task_stands_outside_its_folder():
    found = []
    for file in (*MODULES, *SCRIPTS):
        if "tasks" in file.relative_to(ROOT / "workflow/scripts").parts or file.name == "interactive_inference.py":
            continue
        lines = enumerate(file.read_text().splitlines(), 1)
        found += [f"{file.name}:{number}: {line.strip()}" for number, line in lines if re.search(WORDS, line)]
    assert not found


@pytest.mark.parametrize("task", BUILT_IN)
def test_a_task_imports_no_other(task):
    for file in (PACKAGE / "tasks" / task).glob("*.py"):
        for other in set(BUILT_IN) - {task}:
            assert f"tasks.{other}" not in file.read_text() and f"from ..{other}" not in file.read_text(), file


def test_the_type_checker_reads_every_module_that_has_a_contract():
    read = (ROOT / "tests/contracts.py").read_text()
    for task in BUILT_IN:
        for part in PARTS:
            if (PACKAGE / "tasks" / task / f"{part}.py").exists():
                assert f"from rootstock.tasks.{task} import {part} as " in read, (task, part)


def functions() -> list[tuple[int, str]]:
    found = []
    for file in (*MODULES, *SCRIPTS):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in TABLES:
                found.append((node.end_lineno - node.lineno + 1, f"{file.name}:{node.name}"))
    return found


def test_functions_and_files_are_short():
    lengths = [length for length, _ in functions()]
    assert statistics.median(lengths) <= 7
    assert sum(length <= 18 for length in lengths) >= 0.9 * len(lengths)
    assert max(functions())[0] <= 50, max(functions())
    assert not [file for file in (*MODULES, *SCRIPTS) if file.read_text().count("\n") > 300]


def test_no_two_functions_share_six_lines():
    """Six equal lines of code in a row, but for blank ones, comments, docstrings and lone brackets."""
    places = defaultdict(set)
    for file in (*MODULES, *SCRIPTS):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = [line for statement in node.body for line in ast.unparse(statement).splitlines()]
                for start in range(len(lines) - 5):
                    places["\n".join(lines[start : start + 6])].add(f"{file.name}:{node.name}")
    assert not [sorted(where) for where in places.values() if len(where) > 1]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout of git: what is committed cannot be told")
def test_what_is_committed_is_text_that_one_can_read():
    """A wheel of 94 MB that pip left in a working folder was once committed, and a history keeps such a file for ever."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert len(files) > 200 and not [file.name for file in files if file.exists() and file.stat().st_size > 1_000_000]


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.search(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == rootstock.__version__ == released[1]
