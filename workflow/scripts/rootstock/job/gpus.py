"""The GPUs that a job sees: those it was given and no others. No torch: it must be decided before CUDA looks."""

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
    """Make exactly the GPUs of this job visible, to this process and to those it starts.

    On Slurm they are what Slurm gave; where it gave none, none is seen, also where nothing else holds a job back.
    Elsewhere jobs of one machine lease GPUs from each other: `asked` of them, by default one, and wait while too few are free.
    One is free for a job while fewer than `sharers` have it, and no more than each of these agreed to; those that the
    fewest have come first. A device named by its number is not leased: several jobs may share it. Yields the names of the GPUs.
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
    """How many trainings share a GPU here; on Slurm each job has its own, which only the fine-tunes of one job share."""
    is_alone = "SLURM_JOB_ID" in os.environ and IN_SLURM not in os.environ
    return 1 if is_alone else run.trainings_per_gpu


def require_gpus(asked: int | None) -> list[str]:
    """Names of the GPUs that jobs of this machine share; `Refusal` where one job asks for more."""
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
    """Slurm names a job's GPUs in variables of its own too; CUDA_VISIBLE_DEVICES alone may come from the login shell."""
    if any(name in os.environ for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")):
        return gpus_of_machine()
    return []


def _show(names: list[str]) -> None:
    os.environ[VISIBLE] = ",".join(names)


def _lease(
    names: list[str], count: int, sharers: int, folder: Path, say: Callable[[str], None]
) -> tuple[list[FileLock], list[str]]:
    """`count` free GPUs. Who waits holds the gate, so that a job of many GPUs is not overtaken for ever.

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
    """GPUs that one more may share, those of the fewest first."""
    agreed = {name: _agreed(folder, name) for name in names}  # by each job that has it: with how many
    free = [name for name in names if len(agreed[name]) < min([sharers, *agreed[name]])]
    return sorted(free, key=lambda name: len(agreed[name]))


def _agreed(folder: Path, name: str) -> list[int]:
    """Of each job that has a GPU: how many it shares it with, itself among them; the names of leases tell."""
    found = []
    for path in folder.glob(f"gpu-{glob.escape(name)}.*.lock"):
        if lease := _take(path):
            lease.release()
        else:
            found.append(int(path.name.split(".")[-3]))
    return found


def _take_one(folder: Path, name: str, sharers: int) -> FileLock:
    """One of a GPU's leases for so many sharers, of which one is free: nobody takes any while we hold the gate."""
    places = (folder / f"gpu-{name}.{sharers}.{place}.lock" for place in range(sharers))
    return next(lease for path in places if (lease := _take(path)))


def _take(path: Path) -> FileLock | None:
    lease = FileLock(path)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        return None
    return lease
