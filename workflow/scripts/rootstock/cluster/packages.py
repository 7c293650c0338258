"""Copy installed packages to the disk of a server that mounts the project over the network.

Without the copy each job reads thousands of files over the network. The interpreter is the server's own in any case;
PYTHONPATH makes jobs find the copied packages first (see `prolog`).
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
from .root import CHECK, MAKE, NEED
from .slurm_files import JOB_MARK, Layout
from .ssh import command_on, script_on

# $2 is a folder's name; $3 is its size in KiB (RECEIVE) or its final name (PUBLISH)
HAS = NEED + 'test -d "$root/packages/$2"'
RECEIVE = (
    MAKE
    + r"""
folder=$root/packages/$2; mkdir -p -- "$folder" || exit 1
free=$(df -Pk -- "$folder" | awk 'NR == 2 { print $4 }')
test "$free" -gt "$3" || { echo "needs $(($3 / 1024)) MB in $folder, there are $((free / 1024))" >&2; exit 1; }
tar --no-same-owner -xf - -C "$folder"
"""
)
# Another `up` may have been quicker.
PUBLISH = NEED + 'cd "$root/packages" && { mv -T -- "$2" "$3" 2> /dev/null || { rm -rf -- "$2"; test -d "$3"; }; }'
REMOVE = NEED + 'rm -rf -- "$root/packages/$2"'
FORGET = (
    CHECK
    + r"""
test "$there" && test -d "$root/packages" || exit 0
find "$root/packages" -mindepth 1 -maxdepth 1 -type d ! -name "$2" -exec rm -rf -- {} +
"""
)
# A checksum of the installed versions. The prolog compares it, so that the copy is not used once packages changed.
LISTED = "cd {} && LC_ALL=C ls -d -- *.dist-info | cksum"
# Slurm puts what this prints into the environment of a task. Tasks that are not Rootstock's get nothing.
PROLOG = r"""#!/bin/sh
case "$SLURM_JOB_NAME" in {mark}*) ;; *) exit 0 ;; esac
test -O {root} && test ! -L {root} && test -d {folder} || exit 0
test "$({listed})" = '{installed}' && echo "export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}"{folder}
exit 0
"""


def are_in(project: Path) -> bool:
    """Whether this Python's packages lie in the project, so that a server without its disk lacks them."""
    return installed_in().is_relative_to(project.resolve())


def installed_in() -> Path:
    return Path(sysconfig.get_path("purelib")).resolve()


def folder_of(place: Layout) -> Path:
    """Where a server keeps the copy: a separate folder for each set of versions."""
    return place.root / "packages" / sha256_text(f"{sys.version}\n{_installed()}")[:16]


def prolog(place: Layout) -> str:
    """The script that Slurm runs before each task on a server that has a copy."""
    root, folder = (shlex.quote(str(path)) for path in (place.root, folder_of(place)))
    listed = LISTED.format(shlex.quote(str(installed_in())))
    return PROLOG.format(mark=JOB_MARK, root=root, folder=folder, listed=listed, installed=_installed())


def bring(server: Server, place: Layout, say: Callable[[str], None]) -> None:
    """Copy the packages to a server that lacks them, whole or not at all; `say` reports why if that fails.

    Copies for other versions of the project stay for the jobs that use them, until `clean` or `down`.
    """
    root, name = str(place.root), folder_of(place).name
    try:
        script_on(server, HAS, root, name)
        return
    except subprocess.CalledProcessError:
        pass  # not there yet
    half = f"{name}.{secrets.token_hex(4)}.half"
    size = int(
        subprocess.run(["du", "-sk", installed_in()], capture_output=True, text=True, check=True).stdout.split()[0]
    )
    say(f"{server.host}: copying the packages of .venv, {size // 1024} MB")
    reason = _send(server, root, half, size)
    script_on(server, REMOVE if reason else PUBLISH, root, half, name, seconds=REMOVE_SECONDS)
    if reason:
        say(f"{server.host}: jobs read their packages over the network, because they cannot be copied: {reason}")


def forget_others(server: Server, place: Layout) -> None:
    """Remove the copies for other versions of the project from a server."""
    script_on(server, FORGET, str(place.root), folder_of(place).name, seconds=REMOVE_SECONDS)


def _installed() -> str:
    command = LISTED.format(shlex.quote(str(installed_in())))
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()


def _send(server: Server, root: str, name: str, size: int) -> str | None:
    """Send the packages and unpack them in a folder on the server. Return why that failed, or None."""
    with TemporaryFile("w+") as said:
        sender = subprocess.Popen(
            ["tar", "-C", str(installed_in()), "-cf", "-", "."], stdout=subprocess.PIPE, stderr=said
        )
        receive = command_on(server, ["sh", "-c", RECEIVE, "sh", root, name, str(size)])
        receiver = subprocess.run(receive, stdin=sender.stdout, capture_output=True, text=True, errors="replace")
        assert sender.stdout is not None  # a pipe was asked for
        sender.stdout.close()
        if sender.wait() == 0 == receiver.returncode:
            return None
        said.seek(0)
        lines = [*receiver.stderr.splitlines(), *said.read().splitlines(), "the connection ended"]
    return lines[0]
