"""One training in several processes: the parent holds the lock and publishes, torchrun's workers train."""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ..study.problems import STOP_SIGNALS, Interrupted, Refusal
from ..study.run import Run

WORKER = "ROOTSTOCK_WORKER"
WITH_RANK = 'PET_NODE_RANK=$SLURM_NODEID exec "$@"'  # torchrun reads missing flags from PET_…
SAVING_SECONDS = 600  # the time that torchrun gives its workers to save a checkpoint


def is_worker() -> bool:
    """Whether another process holds the lock and publishes: the one that called `launch_workers`, or rank 0 of a torchrun
    that the user started (several nodes)."""
    return WORKER in os.environ or os.environ.get("RANK", "0") != "0"


def launch_workers(run: Run) -> None:
    """Run this very command in `run.world_size` workers on each of `run.nodes` nodes, and wait for them.

    SIGTERM, SIGUSR1 and SIGINT make the workers save a checkpoint: on one node they are passed on as SIGTERM, on several
    Slurm sends them itself. Raise `Interrupted` if the workers stop after one. Otherwise end this process with their exit
    status unless it is 0. If this process is killed, the workers die with it.
    """
    torchrun = _on_nodes(run) if run.nodes > 1 else _on_this_node(run)
    # "--": torchrun would take our own flags for abbreviations of its own, --run for --run-path
    command = [*torchrun, "--no-python", "--", sys.executable, *sys.argv]
    environment = os.environ | {WORKER: "1", "OMP_NUM_THREADS": str(run.threads)}
    workers = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)
    asked = []

    def pass_on(number: int, _: object) -> None:
        asked.append(number)
        if run.nodes == 1:
            workers.send_signal(signal.SIGTERM)

    for number in STOP_SIGNALS:
        signal.signal(number, pass_on)
    status = workers.wait()
    if status != 0 and asked:
        raise Interrupted("stopped as asked; it resumes from the checkpoint")
    if status != 0:
        sys.exit(status if status > 0 else 128 - status)


def _on_this_node(run: Run) -> list[str]:
    return [*_torchrun(run), *_meeting("127.0.0.1"), "--node-rank=0"]


def _on_nodes(run: Run) -> list[str]:
    """One torchrun per node of this Slurm job, started by srun; they meet at a port of this node, the first one."""
    if "SLURM_JOB_ID" not in os.environ:
        raise Refusal(f"run.nodes: {run.nodes} needs Slurm; run with --profile slurm, or set nodes: 1")
    gpus = [] if run.gpus_asked == 0 else [f"--gpus-per-node={run.gpus_asked or 1}"]
    srun = ["srun", f"--nodes={run.nodes}", f"--ntasks={run.nodes}", "--ntasks-per-node=1", *gpus]
    srun += [f"--cpus-per-task={run.threads * run.world_size}", "--cpu-bind=none", "--kill-on-bad-exit=1"]
    return [*srun, "sh", "-c", WITH_RANK, "sh", *_torchrun(run), *_meeting(_address())]


def _meeting(address: str) -> list[str]:
    """Flags for where processes meet. torchrun's usual rendezvous unpickles what anybody sends to its port; a static one
    does not. Neither asks for a proof of identity: see SECURITY.md."""
    return ["--rdzv-backend=static", f"--master-addr={address}", f"--master-port={_free_port()}"]


def _torchrun(run: Run) -> list[str]:
    # -P: its folder is not searched for modules
    program = [sys.executable, "-P", str(Path(__file__).with_name("torchrun.py"))]
    return [
        *program,
        f"--nnodes={run.nodes}",
        f"--nproc-per-node={run.world_size}",
        f"--shutdown-timeout={SAVING_SECONDS}",
    ]


def _address() -> str:
    """The address at which other nodes reach this one, from Slurm."""
    name = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    shown = subprocess.run(["scontrol", "show", "node", name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bNodeAddr=(\S+)", shown)
    return found[1] if found else name


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]


def _die_with_parent() -> None:
    ctypes.CDLL("libc.so.6").prctl(
        1, signal.SIGKILL
    )  # PR_SET_PDEATHSIG; the workers do the same, see engine.distributed
