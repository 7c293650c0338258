"""Run commands on a server with the user's own ssh: argument lists only, host keys checked, no password prompts."""

import shlex
import subprocess
from collections.abc import Sequence

from .config import Server

CONNECT_SECONDS = 10


class Unreachable(Exception):
    """ssh could not run the command, or no answer came in time; the message gives the reason in one line."""


def command_on(server: Server, arguments: Sequence[str]) -> list[str]:
    """The local command that runs `arguments` on the server. ssh hands them to a shell there, so each is quoted."""
    if server.is_local:
        return list(arguments)
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": CONNECT_SECONDS,
        "ServerAliveInterval": 15,
        "ServerAliveCountMax": 4,
    }
    if server.known_hosts:
        options |= {"UserKnownHostsFile": server.known_hosts, "GlobalKnownHostsFile": "/dev/null"}
    if server.ssh_key:
        options |= {"IdentityFile": server.ssh_key, "IdentitiesOnly": "yes"}
    flags = [word for name, value in options.items() for word in ("-o", f'{name}="{value}"')]
    place = ["-p", str(server.port), "-l", server.user, "--", server.host]
    return ["ssh", "-T", "-a", "-x", *flags, *place, shlex.join(arguments)]


def run_on(server: Server, arguments: Sequence[str], content: bytes = b"", seconds: float = 60) -> str:
    """Run a command on the server and return its output. Raise `Unreachable`, or CalledProcessError if it fails."""
    try:
        done = subprocess.run(command_on(server, arguments), input=content, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Unreachable(f"no answer within {seconds:g} s") from None
    if done.returncode == 255 and not server.is_local:
        raise Unreachable(_reason(server, done.stderr.decode(errors="replace")))
    done.check_returncode()
    return done.stdout.decode(errors="replace")


def script_on(server: Server, script: str, *arguments: str, content: bytes = b"", seconds: float = 60) -> str:
    """Run a constant shell script on the server; what varies is passed as $1, $2, …, never as part of its text."""
    return run_on(server, ["sh", "-c", script, "sh", *arguments], content, seconds)


def _reason(server: Server, said: str) -> str:
    if "Host key verification failed" in said:
        return f"its host key is not known; compare it once: ssh -p {server.port} -l {server.user} {server.host}"
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("Warning:")]
    return lines[-1].strip() if lines else "ssh failed and said nothing"
