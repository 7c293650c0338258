"""Installed packages on a server's own disk, where the project's is far: each job would ask the network for thousands of files.

The interpreter is the server's own in any case; what a job imports is found here first, by PYTHONPATH (`prolog`).
"""

import secrets
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from ..study.identity import sha256_text
from .config import Server
from .daemons import REMOVE_SECONDS
from .slurm_files import JOB_MARK, Layout
from .ssh import command_on, script_on

HAS = 'test -d "$1"'
# $1 where, $2 how many KiB
RECEIVE = r"""
umask 077; mkdir -p -- "$1" || exit 1
free=$(df -Pk -- "$1" | awk 'NR == 2 { print $4 }')
test "$free" -gt "$2" || { echo "needs $(($2 / 1024)) MB in $1, there are $((free / 1024))" >&2; exit 1; }
tar --no-same-owner -xf - -C "$1"
"""
PUBLISH = 'mv -T -- "$1" "$2" 2> /dev/null || { rm -rf -- "$1"; test -d "$2"; }'  # another `up` may have been quicker
REMOVE = 'rm -rf -- "$1"'
FORGET = 'test ! -d "$1" || find "$1" -mindepth 1 -maxdepth 1 -type d ! -name "$2" -exec rm -rf -- {} +'
# What is installed, and in which version. The prolog asks this too: packages that changed after `up` are not used there.
LISTED = "cd {} && LC_ALL=C ls -d -- *.dist-info | cksum"
# What this prints Slurm puts into the environment of a task; tasks that are not Rootstock's get nothing.
PROLOG = r"""#!/bin/sh
case "$SLURM_JOB_NAME" in {mark}*) ;; *) exit 0 ;; esac
test -d {folder} && test "$({listed})" = '{installed}' && echo "export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}"{folder}
exit 0
"""


def are_in(project: Path) -> bool:
    """Whether this Python's packages lie in the project, so that a server without its disk has none of its own."""
    return installed_in().is_relative_to(project.resolve())


def installed_in() -> Path:
    return Path(sysconfig.get_path("purelib")).resolve()


def folder_of(place: Layout) -> Path:
    """Where a server keeps them: another folder for other versions."""
    return place.root / "packages" / sha256_text(f"{sys.version}\n{_installed()}")[:16]


def prolog(place: Layout) -> str:
    """The script that Slurm runs before each task on a server that has a copy."""
    folder, listed = shlex.quote(str(folder_of(place))), LISTED.format(shlex.quote(str(installed_in())))
    return PROLOG.format(mark=JOB_MARK, folder=folder, listed=listed, installed=_installed())


def bring(server: Server, place: Layout, say: Callable[[str], None]) -> None:
    """Copy the packages to a server that lacks them, whole or not at all; `say` is told why where that is not possible.

    What other versions of the project left stays for the jobs that use it, until `clean` or `down`.
    """
    folder = folder_of(place)
    try:
        script_on(server, HAS, str(folder))
        return
    except subprocess.CalledProcessError:
        pass  # not there yet
    half = f"{folder}.{secrets.token_hex(4)}.half"
    size = int(
        subprocess.run(["du", "-sk", installed_in()], capture_output=True, text=True, check=True).stdout.split()[0]
    )
    say(f"{server.host}: copying the packages of .venv, {size // 1024} MB")
    reason = _send(server, half, size)
    script_on(server, REMOVE if reason else PUBLISH, half, str(folder), seconds=REMOVE_SECONDS)
    if reason:
        say(f"{server.host}: jobs read their packages over the network, for they cannot be copied: {reason}")


def forget_others(server: Server, place: Layout) -> None:
    """Remove what other versions of the project left on a server."""
    script_on(server, FORGET, str(place.root / "packages"), folder_of(place).name, seconds=REMOVE_SECONDS)


def _installed() -> str:
    command = LISTED.format(shlex.quote(str(installed_in())))
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()


def _send(server: Server, folder: str, size: int) -> str | None:
    """Unpack them in a folder of the server; why that failed, else None."""
    with TemporaryFile("w+") as said:
        sender = subprocess.Popen(
            ["tar", "-C", str(installed_in()), "-cf", "-", "."], stdout=subprocess.PIPE, stderr=said
        )
        receive = command_on(server, ["sh", "-c", RECEIVE, "sh", folder, str(size)])
        receiver = subprocess.run(receive, stdin=sender.stdout, capture_output=True, text=True, errors="replace")
        sender.stdout.close()
        if sender.wait() == 0 == receiver.returncode:
            return None
        said.seek(0)
        lines = [*receiver.stderr.splitlines(), *said.read().splitlines(), "the connection ended"]
    return lines[0]
