"""Measure what a command and all that it starts cost: CPU seconds, wall seconds, and private memory."""

import ctypes
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
POLL_SECONDS = 0.1


@dataclass
class Cost:
    """The cost of one run. `private` is anonymous memory; `pss` counts shared pages, also of mapped files, once. Both
    are peaks of the sum over all processes, in MB."""

    cpu: float
    wall: float
    private: float = 0.0
    pss: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both runs in sequence, without memory."""
        return Cost(self.cpu + other.cpu, self.wall + other.wall)

    def times(self, factor: float) -> "Cost":
        """The cost of `factor` such runs, without memory."""
        return Cost(self.cpu * factor, self.wall * factor)


def cost_of(commands: list[list[str]], folder: Path, threads: int = 1, memory: bool = False, **variables: str) -> Cost:
    """The cost of commands side by side in a folder. What they leave running, is ended and counted."""
    _adopt_orphans(True)
    environment = os.environ | dict.fromkeys(THREADS, str(threads)) | variables
    ours = set(below(os.getpid()))  # children that are not measured
    before, started, peak = _seconds(), time.monotonic(), Peak() if memory else None
    log = open(folder / "bench.log", "ab")  # noqa: SIM115 (closed below)
    running = [subprocess.Popen(c, cwd=folder, env=environment, stdout=log, stderr=log) for c in commands]
    status = [process.wait() for process in running]
    wall = time.monotonic() - started
    _end_orphans(ours)
    _adopt_orphans(False)
    log.close()
    if any(status):
        raise SystemExit(f"{commands[0]}: ended with {status}; see {folder / 'bench.log'}")
    found = peak.stop() if peak else (0.0, 0.0)
    return Cost(_seconds() - before, wall, *found)


def by_turns(pair: dict[str, Callable[[], Cost]], repeats: int) -> dict[str, Any]:
    """The costs of each way, measured in turn and then in reverse order, and the ratios of the first to each other."""
    names, costs = list(pair), {name: [] for name in pair}
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            costs[name].append(pair[name]())
            print(f"  {name}: {costs[name][-1]}", flush=True)
    ours = costs[names[0]]
    ratios = {
        f"{what}, ours / {name}": spread(
            [getattr(a, what) / getattr(b, what) for a, b in zip(ours, costs[name], strict=True)]
        )
        for name in names[1:]
        for what in ("cpu", "wall", "private")
        if getattr(ours[0], what) and getattr(costs[name][0], what)
    }
    return {"costs": {name: [asdict(cost) for cost in found] for name, found in costs.items()}, "ratios": ratios}


def spread(values: list[float]) -> list[float]:
    """Least, median, most."""
    return [round(value, 3) for value in (min(values), median(values), max(values))]


class Peak:
    """Samples the memory of all processes below this one, ten times a second."""

    def __init__(self):
        self.most, self.ended = [0.0, 0.0], threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def stop(self) -> tuple[float, float]:
        self.ended.set()
        self.thread.join()
        return self.most[0], self.most[1]

    def _look(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            found = [_memory(pid) for pid in below(os.getpid())]
            for place, values in enumerate(zip(*found, strict=True)):
                self.most[place] = max(self.most[place], sum(values))


def below(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        children = [int(c) for f in Path(f"/proc/{pid}/task").glob("*/children") for c in f.read_text().split()]
    except OSError:
        return []
    return [one for child in children for one in (child, *below(child))]


def _memory(pid: int) -> tuple[float, float]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it ended
        return 0.0, 0.0
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.M))
    return int(sizes.get("Anonymous", 0)) / 1024, int(sizes.get("Pss", 0)) / 1024


def _adopt_orphans(yes: bool) -> None:
    """Set whether orphaned processes become children of this one, so that it can count them."""
    ctypes.CDLL("libc.so.6").prctl(PR_SET_CHILD_SUBREAPER, int(yes))


def _end_orphans(ours: set[int]) -> None:
    for pid in set(below(os.getpid())) - ours:
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            continue


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
