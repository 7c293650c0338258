"""A real Slurm cluster on this machine: one controller, three nodes of two GPUs each, on loopback, with munge of its own."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from rootstock.cluster.slurm_files import Head, Layout, Node, configuration

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
DEVICES = ("/dev/tty0", "/dev/tty1")  # Slurm only looks whether they exist; nothing opens them


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


def search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """Starts in `start`, ends in `stop`; every process it started is known by its id."""

    def __init__(self, root: Path, nodes: int = 3):
        self.root, self.layout = root, Layout(root)
        self.host = socket.gethostname().split(".")[0]
        self.nodes = [Node(f"n{i + 1}", self.host, "127.0.0.1", free_port(), 8, 16000, DEVICES) for i in range(nodes)]
        self.head = Head(self.host, "127.0.0.1", free_port())
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = os.environ | {"SLURM_CONF": str(self.layout.slurm_conf), "PATH": search_path()}

    def start(self, **changes: str) -> None:
        """Configure, start everything and wait until all nodes are idle. `changes` replace lines of slurm.conf."""
        root = self.layout.root
        for folder in ("etc", "munge", "socket", "state", "spool", "log", "run"):
            (root / folder).mkdir(parents=True)
        root.chmod(0o711)
        (root / "socket").chmod(0o711)
        self.layout.munge_key.touch(0o600)
        self.layout.munge_key.write_bytes(secrets.token_bytes(128))
        user = pwd.getpwuid(os.getuid()).pw_name
        files = configuration("rootstock-test", user, self.head, self.nodes, self.layout)
        lines = [line for line in files["slurm.conf"].splitlines() if line.partition("=")[0] not in changes]
        files["slurm.conf"] = "\n".join([*(f"{k}={v}" for k, v in changes.items()), *lines]) + "\n"
        for name, text in files.items():
            (root / "etc" / name).write_text(text)
        self._spawn(
            "munged", "--foreground", f"--key-file={self.layout.munge_key}", f"--socket={self.layout.munge_socket}",
            f"--pid-file={root}/run/munged.pid", f"--log-file={root}/log/munged.log", f"--seed-file={root}/munge/seed",
            "--num-threads=2", "--force",
        )  # fmt: skip
        until(self.layout.munge_socket.exists, "munged")
        self.start_controller()
        for node in self.nodes:
            self.start_node(node.name)
        until(lambda: self.states() == {node.name: "idle" for node in self.nodes}, "the nodes", self.describe)

    def start_controller(self) -> None:
        self._spawn("slurmctld", "-D")

    def start_node(self, name: str) -> None:
        self._spawn("slurmd", "-D", "-N", name, key=name)

    def kill(self, key: str, number: int = signal.SIGKILL) -> None:
        """End one daemon: `slurmctld`, or a node by its name."""
        process = self.processes.pop(key)
        process.send_signal(number)
        process.wait(30)

    def kill_node(self, name: str) -> None:
        """As when a machine loses power: the daemon and all that its jobs run."""
        self.kill(name)
        kill_trees(self.steps(name))

    def steps(self, node: str | None = None) -> list[int]:
        """What the jobs of this cluster run, on one node or on all, each with the slurmstepd above it.

        Known by the environment of a job's processes; slurmstepd writes its title over its own.
        """
        marks = [f"SLURM_CONF={self.root}/".encode(), b"SLURM_JOB_ID="]
        marks += [f"SLURMD_NODENAME={node}\0".encode()] if node else []
        found = {pid for pid, _, environment in _processes() if all(mark in environment for mark in marks)}
        above = {parent for pid in found if (parent := step_above(pid))}
        return sorted(found | above)

    def signal_training(self, job: str, number: int) -> None:
        """A signal to the training of a job: SIGSTOP holds it where it is, whatever the speed of the machine."""
        marks = (f"SLURM_JOB_ID={job}\0".encode(), f"SLURM_CONF={self.root}/".encode())
        for pid, command, environment in _processes():
            trains = "python workflow/scripts/train_" in command and "bash" not in command.partition(" ")[0]
            if trains and all(mark in environment for mark in marks):
                os.kill(pid, number)

    def stop(self) -> None:
        subprocess.run(["scancel", "--user", str(os.getuid())], env=self.environment, timeout=30, capture_output=True)
        for key in reversed(list(self.processes)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.kill(key, signal.SIGTERM)
        kill_trees(self.steps())

    def run(self, *command: str, check: bool = True) -> str:
        """The output of a Slurm command on this cluster."""
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=check
        ).stdout

    def states(self) -> dict[str, str]:
        lines = self.run("sinfo", "--Node", "--noheader", "--format=%N %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> dict[str, dict[str, str]]:
        """Every job the controller knows, old ones too, by id: state, node, how often started again, comment."""
        shown = self.run("scontrol", "--oneliner", "show", "job")
        rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in shown.splitlines()]
        keys = {
            "state": "JobState",
            "node": "NodeList",
            "restarts": "Restarts",
            "comment": "Comment",
            "name": "JobName",
        }
        return {row["JobId"]: {k: row.get(v, "") for k, v in keys.items()} for row in rows if "JobId" in row}

    def running(self, comment: str) -> str | None:
        """The id of the running job whose comment ends so."""
        found = [i for i, job in self.jobs().items() if job["state"] == "RUNNING" and job["comment"].endswith(comment)]
        return found[0] if found else None

    def describe(self) -> str:
        logs = sorted((self.layout.root / "log").glob("*"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def _spawn(self, program: str, *flags: str, key: str | None = None) -> None:
        log = open(self.layout.logs / f"{key or program}.out", "ab")  # noqa: SIM115 (the daemon keeps it)
        self.processes[key or program] = subprocess.Popen(
            [program, *flags], env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def step_above(pid: int) -> int | None:
    """The slurmstepd that is the parent of a process, if one is."""
    with contextlib.suppress(OSError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
            return parent
    return None


def kill_trees(pids: list[int]) -> None:
    """End processes and all below them."""
    for pid in pids:
        for victim in [pid, *descendants(pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes below one, children first."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        below = [int(child) for child in children.read_text().split()]
    except FileNotFoundError:
        return []
    return [*below, *(found for child in below for found in descendants(child))]


def _processes():
    """Every process: its id, its command, its environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(entry.name), command, (entry / "environ").read_bytes()


def until(condition, what: str, describe=lambda: "", seconds: float = 30) -> None:
    """Wait for something to come true, and say what did not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come up\n{describe()}"
        time.sleep(0.1)
