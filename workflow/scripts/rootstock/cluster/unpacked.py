"""Slurm on a server without root: this machine's Debian packages, unpacked below the cluster's folder there."""

import io
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from ..study.problems import Refusal
from .config import Server
from .daemons import FOLDERS, PROGRAMS, reason_of
from .root import NEED
from .slurm_files import Layout
from .ssh import script_on

PACKAGES = ("slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
EVERYWHERE = ("libc6", "libpam0g")  # libraries that every Debian has, in its own version
UNPACK = NEED + 'umask 077; mkdir -p -- "$root/unpacked" && tar -xzf - -C "$root/unpacked"'
TRY = PROGRAMS + "slurmd -V && munged --version"
REMOVE = NEED + 'rm -rf -- "$root/unpacked"'


def archive() -> bytes:
    """Return the packages and their libraries as a .tar.gz, downloaded by apt-get, which needs no root for that. Raise
    `Refusal` if this machine cannot fetch them."""
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        try:
            _run(folder, "apt-get", "--quiet", "download", *PACKAGES, *_libraries())
            for package in sorted(Path(folder).glob("*.deb")):
                _run(folder, "dpkg-deb", "--extract", str(package), str(tree))
        except FileNotFoundError as error:
            raise Refusal(f"--unpack: {error.filename} not found here; it works from Debian and Ubuntu only") from None
        except subprocess.CalledProcessError as error:
            raise Refusal(f"--unpack: the packages cannot be fetched here: {reason_of(error)}") from None
        for program in tree.glob("usr/*bin/*-wlm"):  # the plain names are Debian's alternatives, made at installation
            program.with_name(program.name.removesuffix("-wlm")).symlink_to(program.name)
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w:gz") as tar:
            for part in ("usr/bin", "usr/sbin", "usr/lib", "lib"):
                if (tree / part).is_dir():
                    tar.add(tree / part, part)
        return written.getvalue()


def unpack(server: Server, place: Layout, packages: bytes) -> None:
    """Unpack `packages` on a server. If they do not run there, remove them and raise `Refusal`."""
    try:
        script_on(server, FOLDERS, str(place.root))
        script_on(server, UNPACK, str(place.root), content=packages, seconds=300)
        script_on(server, TRY, str(place.root))
    except subprocess.CalledProcessError as error:
        script_on(server, REMOVE, str(place.root))
        raise Refusal(f"packages of this machine do not run there: {reason_of(error)}") from None


def _libraries() -> list[str]:
    """The libraries that the packages name as dependencies."""
    told = _run(".", "apt-cache", "depends", "--no-recommends", "--no-suggests", *PACKAGES)
    named = {line.split()[-1] for line in told.splitlines() if line.strip().startswith("Depends: lib")}
    return sorted(named.difference(EVERYWHERE))


def _run(folder: str, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout.decode(errors="replace")
