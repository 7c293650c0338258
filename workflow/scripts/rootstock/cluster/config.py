"""Read cluster_config.json, the list of servers, and find every fault in it before anything is touched."""

import getpass
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, LiteralString

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ..study.fields import Int, Natural, PathText, Section, is_path
from ..study.problems import Problems, StudyError
from ..study.reading import read_file
from ..study.validate import read_section

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
LOCAL = ("localhost", "127.0.0.1", "::1")
KEYS = ("servers", "script_path", "known_hosts")


def _matching(pattern: re.Pattern[str], phrase: LiteralString) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise PydanticCustomError("phrase", phrase)
        return value

    return AfterValidator(check)


class Entry(Section):
    """One server as the user writes it."""

    host: Annotated[str, _matching(HOST, "a host name or address of letters, digits, '.', ':' and '-'")] = ""
    user: Annotated[str, _matching(USER, "a user name of letters, digits, '.', '_' and '-'")] = ""
    gpus: Natural = 0
    port: Annotated[Int, Field(ge=1, le=65535)] = 22
    ssh_key: PathText | None = None

    model_config = Section.model_config | {"validate_default": False}


@dataclass(frozen=True)
class Server:
    """A checked server. `name` is its name in Slurm."""

    name: str
    host: str
    user: str
    gpus: int
    port: int
    ssh_key: Path | None
    known_hosts: Path | None

    @property
    def is_local(self) -> bool:
        return self.host in LOCAL


@dataclass(frozen=True)
class ClusterConfig:
    """All servers, and notes on ignored keys of the file."""

    servers: list[Server]
    notes: list[str]


def read_cluster_config(path: str | Path) -> ClusterConfig:
    """Read the servers from a file. Raise `StudyError` with one line per fault."""
    problems = Problems()
    content = read_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("servers"), list) or not content["servers"]:
        raise StudyError([f'{path}: needs {{"servers": [{{"host": …, "gpus": 2}}, …]}}'])
    for key in content:
        if key not in KEYS:
            problems.unknown_key(str(key), KEYS)
    known = _file(content.get("known_hosts"), "known_hosts", problems)
    servers = [_server(entry, f"servers[{i}]", known, problems) for i, entry in enumerate(content["servers"])]
    _refuse_twins([server for server in servers if server], problems)
    problems.raise_if_any()
    notes = ["script_path: ignored; Snakemake runs the project's own rules"] if "script_path" in content else []
    return ClusterConfig([server for server in servers if server], notes)


def _server(entry: Any, key: str, known_hosts: Path | None, problems: Problems) -> Server | None:
    if not isinstance(entry, dict):
        problems.add(key, entry, 'needs {"host": …, "gpus": …}')
        return None
    for needed in ("host", "gpus"):
        if needed not in entry:
            problems.lines.append(
                f"{key}.{needed}: missing; give {'the host name' if needed == 'host' else 'a number'}"
            )
    read = read_section(Entry, entry, key, problems)
    ssh_key = _file(read.ssh_key, f"{key}.ssh_key", problems)
    if ssh_key and stat.S_IMODE(ssh_key.stat().st_mode) & 0o077:
        mode = oct(stat.S_IMODE(ssh_key.stat().st_mode))[2:]
        problems.add(f"{key}.ssh_key", str(ssh_key), f"has mode {mode}, others can read it; chmod 600 it")
    name = re.sub(r"[^A-Za-z0-9]+", "-", read.host).strip("-") or "server"
    name = name if name[0].isalpha() else f"node-{name}"
    name = name if read.port == 22 else f"{name}-p{read.port}"
    return Server(name, read.host, read.user or getpass.getuser(), read.gpus, read.port, ssh_key, known_hosts)


def _file(given: Any, key: str, problems: Problems) -> Path | None:
    if given is None:
        return None
    path = Path(os.path.expanduser(str(given)))
    if not is_path(str(given)) or not path.is_file() or not os.access(path, os.R_OK):
        problems.add(key, given, "is no file that can be read; check the path")
        return None
    return path.resolve()


def _refuse_twins(servers: list[Server], problems: Problems) -> None:
    seen: set[str] = set()
    for server in servers:
        name = "localhost" if server.is_local else server.name
        if server.host and name in seen:
            problems.add("servers", server.host, "stands there twice; give each server once, with all its GPUs")
        seen.add(name)
