"""Which machine this is, where a host's name and a process id do not tell."""

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
