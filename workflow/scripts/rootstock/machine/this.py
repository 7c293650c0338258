"""Which machine this is and who runs here, where a host's name and a process id do not tell."""

import getpass
import os
import socket
from pathlib import Path


def this_machine() -> str:
    """A machine since it was started, and the process ids that are seen on it: a container has others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return socket.gethostname()


def most_side_by_side() -> int:
    """Threads, or processes, that a file may ask for here: more than there are cores would only hinder each other."""
    return max(8, os.cpu_count() or 1)


def host_name() -> str:
    """The node's name in Slurm, where one machine may be several nodes; else the machine's."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname().split(".")[0]


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
