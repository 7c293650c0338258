"""Mount the project on a server that shares no disk with this machine, with sshfs over a single ssh connection.

The server needs no key for this machine and no route to it: sshfs runs there in its passive mode, over the standard
input and output of the ssh that starts it, and `sftp-server` answers here.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ..study.problems import Refusal
from .config import Server
from .ssh import Unreachable, command_on, script_on

# Other nodes write too, so sshfs may cache for a second at most. Locks are links, made or refused on this machine.
OPTIONS = "passive,auto_cache,dcache_timeout=1,entry_timeout=1,attr_timeout=1,negative_timeout=0"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
# Links such as `.venv/bin/python` must point where they do here. Since a security update of 2026, sshfs hides the
# targets of links unless an option says that the other end, this machine, can be trusted.
MOUNT = r"""
options=$2; sshfs --help 2>&1 < /dev/null | grep -q no_contain_symlinks && options="$options,no_contain_symlinks"
exec sshfs -f -o "$options" ":$1" "$1"
"""
IS_MOUNTED = 'grep -qsF " $2 fuse.sshfs " /proc/mounts && test -d "$1/.rootstock"'
UNMOUNT = 'grep -qsF " $2 fuse.sshfs " /proc/mounts || exit 0; fusermount3 -u -z "$1" || fusermount -u -z "$1"'


def in_mounts(folder: Path) -> str:
    """A path as /proc/mounts writes it."""
    return str(folder).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def is_mounted(server: Server, folder: Path) -> bool:
    try:
        script_on(server, IS_MOUNTED, str(folder), in_mounts(folder))
    except (Unreachable, subprocess.CalledProcessError):
        return False
    return True


def mount(server: Server, folder: Path, record: Path) -> None:
    """Mount this machine's `folder` under the same path on the server, and write the ids of the processes to `record`.
    Raise `Refusal` if that fails."""
    unmount(server, folder, record)
    try:
        script_on(server, 'mkdir -p -- "$1" && test -w "$1"', str(folder))
    except subprocess.CalledProcessError:
        raise Refusal(f"{folder} cannot be made there; run Rootstock in a path that can exist on all servers") from None
    sftp = next((path for path in SFTP_SERVERS if os.access(path, os.X_OK)), None) or shutil.which("sftp-server")
    if not sftp:
        raise Refusal("sftp-server: not found here; sudo apt-get install -y openssh-sftp-server")
    remote = command_on(server, ["sh", "-c", MOUNT, "sh", str(folder), OPTIONS])
    to_server, from_here = os.pipe()
    to_here, from_server = os.pipe()
    log = open(record.with_suffix(".log"), "ab")  # noqa: SIM115 (both processes keep it)
    ends = [
        subprocess.Popen([sftp], stdin=to_here, stdout=from_here, stderr=log, start_new_session=True),
        subprocess.Popen(remote, stdin=to_server, stdout=from_server, stderr=log, start_new_session=True),
    ]
    for descriptor in (to_server, from_here, to_here, from_server):
        os.close(descriptor)
    log.close()
    record.write_text(json.dumps([end.pid for end in ends]))
    deadline = time.monotonic() + 20
    while not is_mounted(server, folder):
        if ends[1].poll() is not None or time.monotonic() > deadline:
            said = record.with_suffix(".log").read_text(errors="replace").strip().splitlines()
            unmount(server, folder, record)
            raise Refusal(f"sshfs could not mount {folder}: {said[-1] if said else 'no reason given'}")
        time.sleep(0.2)


def unmount(server: Server, folder: Path, record: Path) -> None:
    """Unmount `folder` on the server, if the server can be reached, and end the mount's processes here."""
    if not record.exists():
        return
    with contextlib.suppress(Unreachable, subprocess.CalledProcessError):  # away: its mount ends with the ssh below
        script_on(server, UNMOUNT, str(folder), in_mounts(folder))
    for pid in json.loads(record.read_text()):
        _end(pid)
    record.unlink()
    record.with_suffix(".log").unlink(missing_ok=True)


def _end(pid: int) -> None:
    """End one of the mount's two processes, if the id still belongs to it."""
    try:
        program = Path(f"/proc/{pid}/comm").read_text().strip()
        if program in ("ssh", "sftp-server", "sshfs"):
            os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        return
