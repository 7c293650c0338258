"""The part `packing` of `gpu.py`: trainings side by side on one GPU, one process each."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_work import SIZES, WARM_UP, Tell, Work, as_the_engine_does, step_of, synchronise, tell

GPU_PY = Path(__file__).with_name("gpu.py")
SIDE_BY_SIDE, PACKED_SECONDS, STEPS_A_TRAINING = (1, 2, 4, 8, 16), 3.0, 100


def packing(tell: Tell, device: torch.device, folder: Path, quick: bool = False) -> None:
    """Independent trainings side by side, one process each; more of them join from row to row."""
    counts, seconds = ((1, 2), 0.1) if quick else (SIDE_BY_SIDE, PACKED_SECONDS)
    names = [name for name, size in SIZES.items() if size(quick).is_small]
    command = [sys.executable, str(GPU_PY), "--device", device.type, "--run", "worker"]
    alone: dict[str, float] = {}
    before = _used(device)
    with contextlib.ExitStack() as opened:
        workers: list[subprocess.Popen[str]] = []
        for count in counts:
            new = [_begun(command, opened) for _ in range(count - len(workers))]
            workers += new
            for worker in new:
                _answer(worker)
            for name in names:
                for worker in workers:
                    _ask(worker, {"name": name, "seconds": seconds, "quick": quick})
                found = [_answer(worker) for worker in workers]
                each = (_used(device) - before) / count / 2**20
                rate = sum(one["steps"] / one["seconds"] for one in found) / STEPS_A_TRAINING
                alone.setdefault(name, rate)
                tell(
                    f"{name}: {count} at a time",
                    trainings_a_second=rate,
                    times_one=rate / alone[name],
                    MiB_each=each,
                    MiB_of_torch=max(one["reserved"] for one in found) / 2**20,
                )


def _begun(command: list[str], opened: contextlib.ExitStack) -> "subprocess.Popen[str]":
    worker = opened.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    )
    opened.callback(worker.kill)
    return worker


def _ask(worker: "subprocess.Popen[str]", question: dict[str, Any]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(question) + "\n")


def _answer(worker: "subprocess.Popen[str]") -> dict[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"a process of them ended with {worker.wait()}")
    return json.loads(line)


def work(device: torch.device) -> None:
    """A worker of `packing`: train for as long as asked, and report the number of steps."""
    as_the_engine_does()
    torch.set_num_threads(1)
    made: dict[str, Callable[[], object]] = {}
    torch.zeros(1, device=device)
    tell("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["name"]
        if name not in made:
            made[name] = step_of(Work(SIZES[name](asked["quick"]), device))
        step, count = made[name], 0
        for _ in range(WARM_UP):
            step()
        synchronise(device)
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < asked["seconds"]:
            step()
            count += 1
            if count % 10 == 0:
                synchronise(device)  # or queued launches would count that nobody waited for
        synchronise(device)
        passed = time.perf_counter() - began
        reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
        tell(name, steps=count, seconds=passed, reserved=reserved)


def _used(device: torch.device) -> int:
    """Bytes of GPU memory that all processes use together."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free
