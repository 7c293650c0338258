"""Ask a server once over ssh what it has, and list what it lacks."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..machine.private import cluster_root
from .config import Server
from .daemons import PROGRAMS, reason_of
from .mount import in_mounts
from .ssh import Unreachable, run_on, script_on

CLOCK_SECONDS = 60  # munge refuses credentials that are minutes off
PACKAGES = "slurmd slurm-client munge"
# $1 the root of the cluster, $2 our Python, $3 a file of the project, $4 the project as /proc/mounts writes it
PROBE = (
    PROGRAMS
    + r"""
echo "uid=$(id -u)"; echo "hostname=$(hostname -s)"; echo "clock=$(date +%s)"
echo "slurmd=$(slurmd -V 2>/dev/null)"; echo "munged=$(command -v munged)"; echo "srun=$(command -v srun)"
echo "cpus=$(nproc)"; echo "memory_kb=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
echo "gpus=$(ls -d /dev/nvidia[0-9] /dev/nvidia[0-9][0-9] 2>/dev/null | tr '\n' ' ')"
echo "python=$("$2" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null)"
echo "sshfs=$(command -v sshfs)"; echo "fuse=$(test -w /dev/fuse && echo yes)"
echo "mark=$(cat "$3" 2>/dev/null)"
echo "mounted=$(grep -sF " $4 fuse.sshfs " /proc/mounts)"
echo "plugins=${stepd:+$plugins}"
echo "machine=$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/net) $(readlink /proc/self/ns/pid)"
"""
)


@dataclass
class Probe:
    """The answers of one server. `faults` lists what must be fixed before it can take part."""

    server: Server
    hostname: str = ""
    slurm: str = ""
    python: str = ""
    cpus: int = 0
    memory_mb: int = 0
    devices: tuple[str, ...] = ()
    machine: str = ""  # the same for two names of one machine
    plugins: str = ""  # the folder of Slurm's plugins, if `unpacked` put Slurm there
    shares_disk: bool = False
    reachable: bool = False
    faults: list[str] = field(default_factory=list)

    @property
    def lacks_slurm(self) -> bool:
        return self.reachable and any(fault.startswith("Slurm or munge missing") for fault in self.faults)


def slurm_version() -> str:
    """This machine's release of Slurm, such as 22.05; empty if Slurm is not installed."""
    try:
        told = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return _release(told)


def probe(server: Server, mark: Path) -> Probe:
    """Ask one server. `mark` is a file of the project, whose content the server sees if it shares the disk."""
    found = Probe(server)
    try:
        told = script_on(server, PROBE, str(cluster_root()), sys.executable, str(mark), in_mounts(Path.cwd()))
    except (Unreachable, subprocess.CalledProcessError) as error:
        found.faults.append(reason_of(error))
        return found
    answers = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    found.reachable, found.hostname = True, answers["hostname"]
    found.slurm, found.python = _release(answers["slurmd"]), answers["python"]
    found.cpus, found.memory_mb = int(answers["cpus"]), int(answers["memory_kb"]) // 1024 * 95 // 100
    found.plugins, found.machine = answers["plugins"], answers["machine"]
    found.devices = tuple(sorted(answers["gpus"].split(), key=lambda d: int(d.removeprefix("/dev/nvidia"))))
    found.shares_disk = answers["mark"] == mark.read_text() and not answers["mounted"]
    found.faults += _faults(found, answers, slurm_version())
    found.devices = found.devices[: server.gpus]
    return found


def refuse_second_names(probes: list[Probe]) -> None:
    """Add a fault to each server that is the same machine as an earlier one: its GPUs would be given out twice."""
    first: dict[str, Probe] = {}
    for found in probes:
        known = "-" in found.machine  # without the boot id the rest identifies nothing
        other = first.setdefault(found.machine, found) if known else found
        if other is not found:
            found.faults.append(f"is the same machine as {other.server.host}; give it once, with all its GPUs")


def _faults(found: Probe, answers: dict[str, str], ours: str) -> list[str]:
    faults = []
    if not (found.slurm and answers["munged"] and answers["srun"]):
        apt = f"sudo apt-get install -y --no-install-recommends {PACKAGES}"
        faults.append(f"Slurm or munge missing: {apt}; without root: cluster.py up --unpack")
    elif found.slurm != ours:
        faults.append(f"Slurm {found.slurm}, here it is {ours or 'missing'}: install the same release on both")
    if int(answers["uid"]) != os.getuid():
        faults.append(f"user {found.server.user} has uid {answers['uid']} there, {os.getuid()} here: use the same uid")
    apart = abs(int(answers["clock"]) - time.time())
    if apart > CLOCK_SECONDS:
        faults.append(f"its clock is {apart:.0f} s off: sudo timedatectl set-ntp true")
    if len(found.devices) < found.server.gpus:
        faults.append(
            f"{len(found.devices)} GPUs found, {found.server.gpus} in the configuration: give gpus: {len(found.devices)}"
        )
    if not found.shares_disk and not (answers["sshfs"] and answers["fuse"]):
        faults.append(
            "no shared disk, and no sshfs with a writable /dev/fuse to mount it: sudo apt-get install -y sshfs"
        )
    return faults


def _release(version: str) -> str:
    match = re.search(r"(\d+\.\d+)", version)
    return match[1] if match else ""


def why_no_python(server: Server) -> str | None:
    """Why this process's Python cannot import Snakemake on the server; None if it can."""
    try:
        run_on(server, [sys.executable, "-c", "import snakemake"], seconds=120)
    except Unreachable as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        return reason_of(error)
    return None
