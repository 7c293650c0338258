#!/usr/bin/env python
"""Measure Rootstock on a GPU, in under 8 minutes, without a network:

    python benchmarks/gpu.py --output gpu.json [steps packing determinism precision tasks]

    steps        a step eager, compiled and as a CUDA graph, beside the launch limit
    packing      1 to 16 trainings at a time on the GPU
    determinism  whether the same training gives the same bits, and what that costs
    precision    bf16 and fp16 beside float32, with TF32 and without
    tasks        every task trains, gives the same bits again, resumes, splits over two processes, and loads on a CPU

Each part is a process with its own time limit. Rows printed before it fails or runs out of time are kept. Parts are in
`gpu_parts.py`.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "workflow/scripts"), str(HERE.parent / "tests"), str(HERE)]
SECONDS = {"steps": 130, "packing": 100, "determinism": 50, "precision": 40, "tasks": 140}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ENVIRONMENT = THREADS | {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
    "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],  # one GPU
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help="default: all")
    parser.add_argument("--output", type=Path, help="a file for the results, as JSON")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=[*SECONDS, "worker"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(SECONDS):
        parser.error(f"{', '.join(sorted(unknown))} unknown; choose {', '.join(SECONDS)}")
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: torch sees no GPU here, so nothing was measured")
    if args.run:
        run_here(args.run, torch.device(args.device))
    elif args.output is None:
        parser.error("--output: missing; give a file for the results")
    else:
        measure(args.parts or list(SECONDS), args.device, args.output)


def run_here(part: str, device: Any) -> None:
    """Run a part in this process, or a worker of the part `packing`."""
    from gpu_packing import work
    from gpu_parts import PARTS
    from gpu_work import tell

    if part == "worker":
        work(device)
        return
    with tempfile.TemporaryDirectory() as folder:
        PARTS[part](tell, device, Path(folder))


def measure(parts: list[str], device: str, output: Path) -> None:
    """Run all parts one after the other, and rewrite the file after each."""
    from gpu_parts import about

    results: dict[str, Any] = {"about": about(device), "parts": {}}
    for part in parts:
        print(f"{part}, {SECONDS[part]} s at most", flush=True)
        command = [sys.executable, str(HERE / "gpu.py"), "--device", device, "--run", part]
        results["parts"][part] = told(command, SECONDS[part])
        output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def told(command: list[str], seconds: float) -> dict[str, Any]:
    """The rows that a command prints, one JSON object per line, and its error. After `seconds` all of it is killed."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        assert process.stdout is not None
        rows = [json.loads(line) for line in process.stdout if line.startswith("{")]
        status = process.wait()
        timer.cancel()
        errors.seek(0)
        said = [line.strip() for line in errors.read().splitlines() if line.strip()]
    reason = f"stopped after {seconds} s" if is_late.is_set() else (said or [f"ended with {status}"])[-1]
    return {"rows": rows, "error": reason if status else None}


def table(results: dict[str, Any]) -> str:
    """One line per row: its part, its subject and its numbers."""
    lines = [", ".join(f"{name} {value}" for name, value in results["about"].items())]
    for part, found in results["parts"].items():
        for row in found["rows"]:
            numbers = ", ".join(f"{name} {_shown(value)}" for name, value in row.items() if name != "what")
            lines.append(f"{part:<12} {row['what']:<44} {numbers}")
        if found["error"]:
            lines.append(f"{part:<12} {'failed':<44} {found['error']}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
