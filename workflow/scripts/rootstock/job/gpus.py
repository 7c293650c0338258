"""The GPUs that a job sees: only those it was given. No torch: the choice must be made before CUDA starts."""

import glob
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..machine.private import make_own
from ..study.problems import Refusal
from ..study.run import Run
from ..warm.client import IN_SLURM

VISIBLE = "CUDA_VISIBLE_DEVICES"


@contextmanager
def granted_gpus(
    asked: int | None, device: str, say: Callable[[str], None], leases: Path | None = None, sharers: int = 1
) -> Iterator[list[str]]:
    """Make only the GPUs of this job visible, to this process and to those it starts. Yield their names.

    Under Slurm they are those that Slurm gave; if it gave none, the job sees none, even on a node that would allow it.
    Elsewhere the jobs of a machine lease GPUs: a job takes `asked` of them, by default one, and waits while too few are
    free. A GPU is free for a job if fewer than `sharers` jobs have it and each of them agreed to one more; the GPUs with
    the fewest jobs come first. A device named by its number is not leased: several jobs may share it.
    """
    before = os.environ.get(VISIBLE)
    leases = leases or Path(tempfile.gettempdir()) / f"rootstock-gpus-{os.getuid()}"
    held: list[FileLock] = []
    names: list[str] = []
    try:
        if "SLURM_JOB_ID" in os.environ:
            _show(names := _given_by_slurm())
        elif asked == 0:
            _show(names)
        elif device in ("auto", "cuda") and (present := require_gpus(asked)):
            held, names = _lease(present, asked or 1, sharers, leases, say)
            _show(names)
        yield names
    finally:
        for lease in held:
            lease.release()
        os.environ.pop(VISIBLE, None) if before is None else os.environ.update({VISIBLE: before})


def trainings_on_a_gpu(run: Run) -> int:
    """The number of trainings that share a GPU. Under Slurm each job has its own, shared only by jobs of one allocation."""
    is_alone = "SLURM_JOB_ID" in os.environ and IN_SLURM not in os.environ
    return 1 if is_alone else run.trainings_per_gpu


def require_gpus(asked: int | None) -> list[str]:
    """Names of the GPUs that jobs of this machine share. Raise `Refusal` if one job asks for more."""
    present = gpus_of_machine()
    if asked is not None and asked > len(present):
        raise Refusal(
            f"run.gpus: {asked} asked for, this machine shows {len(present)}; "
            f"give fewer, or for a training on CPUs gpus: 0 and processes: {asked}"
        )
    return present


def gpus_of_machine() -> list[str]:
    """Names of the GPUs that may be used here: what CUDA_VISIBLE_DEVICES lists, else all NVIDIA device files."""
    listed = os.environ.get(VISIBLE)
    if listed is not None:
        return [name for name in listed.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia[0-9]*"))
    return sorted((match[1] for match in found if match), key=int)


def _given_by_slurm() -> list[str]:
    """The GPUs that Slurm gave. It sets variables of its own too; CUDA_VISIBLE_DEVICES alone may come from the login shell."""
    if any(name in os.environ for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")):
        return gpus_of_machine()
    return []


def _show(names: list[str]) -> None:
    os.environ[VISIBLE] = ",".join(names)


def _lease(
    names: list[str], count: int, sharers: int, folder: Path, say: Callable[[str], None]
) -> tuple[list[FileLock], list[str]]:
    """Lease `count` free GPUs. A waiting job holds the gate, so that others cannot overtake a job of many GPUs for ever.

    The kernel frees the leases of a process that dies.
    """
    make_own(folder, "remove it, or set TMPDIR to a folder of yours")
    told = False
    with FileLock(folder / "gate.lock"):
        while len(chosen := _free(names, sharers, folder)[:count]) < count:
            if not told:
                say(f"waiting for {count} free GPU(s) of {len(names)}")
            told = True
            time.sleep(0.5)
        return [_take_one(folder, name, sharers) for name in chosen], chosen


def _free(names: list[str], sharers: int, folder: Path) -> list[str]:
    """GPUs that one more job may share, those with the fewest jobs first."""
    agreed = {name: _agreed(folder, name) for name in names}  # one number per job that has it
    free = [name for name in names if len(agreed[name]) < min([sharers, *agreed[name]])]
    return sorted(free, key=lambda name: len(agreed[name]))


def _agreed(folder: Path, name: str) -> list[int]:
    """For each job that has a GPU, how many jobs it lets share it, itself included: the name of its lease says so."""
    found = []
    for path in folder.glob(f"gpu-{glob.escape(name)}.*.lock"):
        if lease := _take(path):
            lease.release()
        else:
            found.append(int(path.name.split(".")[-3]))
    return found


def _take_one(folder: Path, name: str, sharers: int) -> FileLock:
    """Take one of a GPU's leases for `sharers` jobs. One is free, because nobody else takes any while we hold the gate."""
    places = (folder / f"gpu-{name}.{sharers}.{place}.lock" for place in range(sharers))
    return next(lease for path in places if (lease := _take(path)))


def _take(path: Path) -> FileLock | None:
    lease = FileLock(path)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return None
    return lease
