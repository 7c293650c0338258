"""One training in several processes: the parent holds the lock and publishes, torchrun's workers train."""

import ctypes
import os
import signal
import subprocess
import sys

WORKER = "ROOTSTOCK_WORKER"


def is_worker() -> bool:
    """Whether another process holds the lock and publishes: the parent of `launch_workers`, or under a torchrun of the
    user's own (several nodes) its rank 0."""
    return WORKER in os.environ or os.environ.get("RANK", "0") != "0"


def launch_workers(processes: int, threads: int) -> None:
    """Run this very command in `processes` workers on this machine, on a free port of their own, and wait for them.

    SIGTERM and SIGUSR1 are passed on as SIGTERM, on which the workers save a checkpoint. If this process is killed
    the workers die with it. Ends this process with the workers' exit status unless it is 0.
    """
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
    command = [
        sys.executable,
        "-m",
        *torchrun,
        "--",
        sys.executable,
        *sys.argv,
    ]  # "--": our --run is not its --run-path
    workers = subprocess.Popen(
        command, env=os.environ | {WORKER: "1", "OMP_NUM_THREADS": str(threads)}, preexec_fn=_die_with_parent
    )
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: workers.send_signal(signal.SIGTERM))
    status = workers.wait()
    if status != 0:
        sys.exit(status if status > 0 else 128 - status)


def _die_with_parent() -> None:
    ctypes.CDLL("libc.so.6").prctl(
        1, signal.SIGKILL
    )  # PR_SET_PDEATHSIG; the workers do the same, see engine.distributed
