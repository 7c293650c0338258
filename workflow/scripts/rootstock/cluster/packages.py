"""Installed packages on a server's own disk, where the project's is far: each job would ask the network for thousands of files.

The interpreter is the server's own in any case; what a job imports is found here first, by PYTHONPATH (`prolog`).
"""

import shlex
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from ..study.identity import sha256_text
from .config import Server
from .slurm_files import Layout
from .ssh import command_on, script_on

HAS = 'test -d "$1"'
# Whole or not at all; what another version of the project left stays for the jobs that use it, until `clean` or `down`.
RECEIVE = r"""
umask 077; half="$1.$$.half"; mkdir -p -- "$half" || exit 1
if tar --no-same-owner -xf - -C "$half"; then mv -- "$half" "$1" 2>/dev/null || test -d "$1"; status=$?; else status=1; fi
rm -rf -- "$half"; exit $status
"""
FORGET = 'test ! -d "$1" || find "$1" -mindepth 1 -maxdepth 1 -type d ! -name "$2" -exec rm -rf -- {} +'


def are_in(project: Path) -> bool:
    """Whether this Python's packages lie in the project, so that a server without its disk has none of its own."""
    return installed_in().is_relative_to(project.resolve())


def installed_in() -> Path:
    return Path(sysconfig.get_path("purelib")).resolve()


def folder_of(place: Layout) -> Path:
    """Where a server keeps them: another folder for other versions."""
    found = sorted(f"{each.metadata['Name']} {each.version}" for each in distributions(path=[str(installed_in())]))
    return place.root / "packages" / sha256_text("\n".join([sys.version, *found]))[:16]


def prolog(place: Layout) -> str:
    """What Slurm runs before each task there; it puts into the task's environment what this prints."""
    folder = shlex.quote(str(folder_of(place)))
    return f'#!/bin/sh\nfolder={folder}\ntest ! -d "$folder" || echo "export PYTHONPATH=$folder${{PYTHONPATH:+:$PYTHONPATH}}"\n'


def bring(server: Server, place: Layout) -> str | None:
    """Copy the packages to a server that lacks them; why that was not possible, else None."""
    folder = folder_of(place)
    try:
        script_on(server, HAS, str(folder))
        return None
    except subprocess.CalledProcessError:
        pass  # not there yet
    sender = subprocess.Popen(["tar", "-C", str(installed_in()), "-cf", "-", "."], stdout=subprocess.PIPE)
    receiver = subprocess.run(
        command_on(server, ["sh", "-c", RECEIVE, "sh", str(folder)]), stdin=sender.stdout, capture_output=True
    )
    sender.stdout.close()
    if receiver.returncode == 0 == sender.wait():
        return None
    said = receiver.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said else "the connection ended"


def forget_others(server: Server, place: Layout) -> None:
    """Remove what other versions of the project left on a server."""
    script_on(server, FORGET, str(place.root / "packages"), folder_of(place).name, seconds=300)
