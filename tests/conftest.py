"""A project folder in a temporary place, tiny data, and runners for the real scripts and the real Snakemake."""

import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: tests run side by side
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the library, each anew

import forks
import pytest
from tiny import PEOPLE, write_people

from rootstock.commands import cli
from rootstock.job.job import Job
from rootstock.job.prepare import prepare
from rootstock.job.train import train
from rootstock.study import paths
from rootstock.study.config import parse_study
from rootstock.study.plan import Plan, Planned
from rootstock.study.planner import make_plan
from rootstock.study.run import Run
from rootstock.tasks.registry import TASKS
from rootstock.warm.server import PARTS

__all__ = [
    "PEOPLE",
    "ROOT",
    "Project",
    "end_warm",
    "job_of",
    "jobs_run",
    "plan",
    "prepared",
    "ran",
    "refused",
    "warm_processes",
    "write_people",
]

ROOT = Path(__file__).parent.parent

# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Below `make test ARGS=…` another `make` would say more, and take these flags for its own.
for variable in [name for name in os.environ if name.startswith("MAKE") or name in ("ARGS", "STUDY", "CONFIG")]:
    del os.environ[variable]


def plan(**study):
    """The plan of a study given as keywords."""
    return make_plan(*parse_study({"study": "t"} | study, TASKS))


def prepared(planned: Plan) -> Plan:
    """A plan whose data is prepared, in the working folder."""
    for artefact in reversed(planned.artefacts.values()):  # what an artefact needs is planned after it
        prepare(planned.study.task, artefact.spec, paths.prepared(artefact.name), say=lambda _: None)
    return planned


WARM_ROOT = "ROOTSTOCK_WARM_ROOT"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder of all workers of this test session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def warm_root(shared_folder) -> Iterator[Path]:
    """A folder for the warm processes of this test session; none of them is left behind by its last worker."""
    root = shared_folder / "warm"
    os.environ[WARM_ROOT] = str(root)
    with open(shared_folder / "warm.users", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield root
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end_warm(root)


@pytest.fixture(scope="session", autouse=True)
def forks_folder(shared_folder) -> Iterator[None]:
    """Where the servers of `forks` are reached."""
    forks.begin(shared_folder)
    yield
    forks.let_go()


def end_warm(root: Path) -> None:
    """Kill the warm processes that are reached in a folder, their supervisors and jobs, all at once."""
    for pid in warm_processes(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def warm_processes(root: Path, kind: str = "") -> list[int]:
    """Process ids of warm processes that are reached in a folder, of their supervisors and jobs, or of one kind of these."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_one = b"/warm.py\0" in (entry / "cmdline").read_bytes()
            if is_one and f"{WARM_ROOT}={root}\0".encode() in (entry / "environ").read_bytes():
                found += [int(entry.name)] if kind in (entry / "comm").read_text() else []
    return found


def variables() -> dict[str, str]:
    """Those of a new process: not what a Snakemake around the tests set, nor what a training in this process did."""
    ours = ("SNAKEMAKE", "CUBLAS_WORKSPACE_CONFIG", "TOKENIZERS_PARALLELISM", "TORCHINDUCTOR_CACHE_DIR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Project:
    """A project folder: the real workflow, other studies, and everything that a run writes."""

    python = sys.executable

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("Snakefile", "workflow", "profiles", "local", "slurm", "config"):
            (folder / name).symlink_to(ROOT / name)

    def __truediv__(self, path: str) -> Path:
        return self.folder / path

    def study(self, name: str, content: dict) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({"study": name} | content))  # JSON is YAML
        return path

    def script(self, name: str, *flags: str, check: bool = True) -> subprocess.CompletedProcess:
        start = ["--warm"] if name in PARTS else []
        return self._run(self.command(name, *flags, *start), check, is_forked=not start)

    def command(self, name: str, *flags: object) -> list[str]:
        """A command line: Snakemake's, or a script's."""
        if name == "snakemake":
            program = [str(Path(sys.executable).parent / "snakemake"), "--profile", "local", "--cores", "2"]
        else:
            program = [self.python, f"workflow/scripts/{name}.py"]
        return [*program, *map(str, flags)]

    def here(self, name: str, *flags: str) -> str:
        """What a script prints, run in this process, which has torch loaded: for what a test begins with."""
        argv, said = [f"workflow/scripts/{name}.py", *map(str, flags)], io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", argv)
            assert not importlib.import_module(name).main(), said.getvalue()
        return said.getvalue()

    def train_here(self, content: dict) -> dict[str, bytes]:
        """Train all of a study in this process; each model's bytes, by hash."""
        self.publish_here(content, "store")
        return {path.parent.name: path.read_bytes() for path in self.folder.glob("store/*/model.pt")}

    def publish_here(self, content: dict, store: str = paths.STORE) -> None:
        """Train and publish all of a study in this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            planned = prepared(plan(**content))
            for base in planned.bases.values():
                model = Path(paths.base_model(base.hash))
                kept = train(job_of(base, store, planned.study.run))
                kept.publish_base(model, paths.base_metadata(model))
            for tuned in planned.experiments.values():
                train(job_of(tuned, store, planned.study.run)).publish_experiment(Path(tuned.path))

    def snakemake(self, *flags: str, check: bool = True) -> subprocess.CompletedProcess:
        return self._run(self.command("snakemake", *flags), check)

    def start(self, name: str, *flags: object, log: str) -> "subprocess.Popen | forks.Forked":
        """A command in the background, as the leader of a session; what it says goes to the end of a file."""
        command = self.command(name, *flags)
        with open(self / log, "a") as file:
            forked = self._fork(command, file, file)
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, "env": variables()}
            return forked or subprocess.Popen(command, cwd=self.folder, start_new_session=True, **streams)

    def _run(self, command: list[str], check: bool, is_forked: bool = True) -> subprocess.CompletedProcess:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, "env": variables()}
            forked = self._fork(command, out, err) if is_forked else None
            status = (forked or subprocess.Popen(command, cwd=self.folder, **streams)).wait()
            for stream in (out, err):
                stream.seek(0)
            done = subprocess.CompletedProcess(command, status, out.read(), err.read())
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        return done

    def _fork(self, command: list[str], out: TextIO, err: TextIO) -> forks.Forked | None:
        """The command in a forked process; None where it is to load code of its own."""
        if os.path.realpath(self / "workflow") != str(ROOT / "workflow") or self.python != sys.executable:
            return None
        return forks.fork(command, self.folder, variables(), out.fileno(), err.fileno())

    def files(self) -> set[str]:
        """Every file below the project, but for what Snakemake keeps for itself."""
        found = (p.relative_to(self.folder) for p in self.folder.rglob("*") if p.is_file())
        return {
            str(p)
            for p in found
            if p.parts[0] not in (".snakemake", "workflow", "profiles", "config", "local", "slurm")
        }


def ran(project, capsys, script: str, *flags) -> tuple[int, str, str]:
    """Exit status, output and errors of a script, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setattr(sys, "argv", [f"workflow/scripts/{script}.py", *map(str, flags)])
        module = importlib.import_module(script)
        try:
            status = cli._status_of(getattr(module, "run", module.main))
        except SystemExit as end:
            status = end.code
    return status, *capsys.readouterr()


def refused(project, capsys, script: str, *flags) -> str:
    """The one line with which a script ends, having written nothing (but what it remembers of the data's identity)."""
    remembered = {".rootstock/fingerprints.json"}
    before = project.files() | remembered
    status, _, err = ran(project, capsys, script, *flags)
    assert status == 1 and len(err.strip().splitlines()) == 1, err
    assert project.files() | remembered == before
    return err


def job_of(training: Planned, store: str = "store", run: Run | None = None) -> Job:
    return Job(
        training.spec, training.data, store, expect=json.loads(training.expect), run=run or Run(), say=lambda _: None
    )


def jobs_run(output: str) -> dict[str, int]:
    """How many jobs of each rule a Snakemake run started, from what it tells first."""
    told = re.search(r"^to do: (.*)$", output, re.M)
    return {rule: int(number) for number, rule in re.findall(r"(\d+) (\w+)", told.group(1))} if told else {}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


@pytest.fixture
def people(project: Project) -> Path:
    return write_people(project / "data/tiny")


# What begins first, the longest before the others: groups of tests, each of which runs in one process, and tests that take long.
# Those of Slurm wait more than they compute.
FIRST = (
    "test_slurm",
    "test_cluster",
    "test_workflow",
    "test_kill",
    "test_engine",
    "test_shared_store",
    "test_language_tools",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: (not is_long(item), places.get(item.module.__name__, len(FIRST))))


def is_long(item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "slurm", "workflow"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where Slurm was installed on purpose (.ci/run), a test of it that is skipped fails."""
    report = (yield).get_result()
    if report.skipped and "slurm" in item.keywords and os.environ.get("ROOTSTOCK_REQUIRE_SLURM"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
