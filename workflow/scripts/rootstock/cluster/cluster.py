"""Turn a list of servers into a Slurm cluster (`up`), ask for its state (`node_states`) and remove it (`down`)."""

import json
import os
import pwd
import secrets
import socket
import subprocess
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..machine.private import cluster_root, own_cluster
from ..study.problems import Refusal
from . import daemons, packages
from .config import ClusterConfig, Server
from .mount import is_mounted, mount, unmount
from .probe import Probe, probe, refuse_second_names, slurm_version, why_no_python
from .root import MAKE
from .slurm_files import Head, Layout, Node, configuration, files_of
from .ssh import Unreachable, script_on
from .unpacked import archive, unpack

HERE = Server("head", "localhost", "", 0, 22, None, None)
MARK = Path(".rootstock/cluster_mark")


def layout() -> Layout:
    """The cluster's folder on disk. Raise `Refusal` if other users may have been in it."""
    return Layout(cluster_root())


def ports() -> int:
    """The first port of this user's cluster: slurmctld's. Those of the slurmds follow, one per server."""
    return 20000 + zlib.crc32(str(layout().root).encode()) % 12000  # below the ports that the kernel hands out


def probe_all(config: ClusterConfig) -> list[Probe]:
    """Probe all servers at once; nothing on them changes."""
    MARK.parent.mkdir(parents=True, exist_ok=True)
    MARK.write_text(secrets.token_hex(16))
    try:
        with ThreadPoolExecutor(16) as pool:
            probes = list(pool.map(lambda server: probe(server, MARK.resolve()), config.servers))
    finally:
        MARK.unlink()
    refuse_second_names(probes)
    return probes


def up(config: ClusterConfig, may_unpack: bool = False, say: Callable[[str], None] = print) -> list[Probe]:
    """Start the cluster. Slurm daemons that run already are restarted, because the configuration may have changed.

    A server with a fault is left out, and the faults of its probe say why; the others do not wait for it. With
    `may_unpack`, servers without Slurm get this machine's packages. `say` reports slow steps and shortcomings.
    Raise `Refusal` if this machine has no slurmctld.
    """
    if not slurm_version():
        raise Refusal(
            "slurmctld: not found here; sudo apt-get install -y --no-install-recommends slurmctld slurm-client munge"
        )
    probes, place = probe_all(config), layout()
    if may_unpack and any(found.lacks_slurm for found in probes):
        refusals = _unpack([found.server for found in probes if found.lacks_slurm], place)
        probes = probe_all(config)
        for found in probes:
            found.faults += refusals.get(found.server.name, [])
    able = [found for found in probes if not found.faults]
    if not able:
        return probes
    head = Head(socket.gethostname().split(".")[0], _address(able), ports())
    nodes = _nodes(probes, head.address, place)
    files = configuration("rootstock", pwd.getpwuid(os.getuid()).pw_name, head, nodes, place)
    key = place.munge_key.read_bytes() if place.munge_key.exists() else secrets.token_bytes(128)
    _end([server for server in _servers_before(place) if server.name not in {s.name for s in config.servers}], place)
    kept = {
        "nodes.json": [asdict(node) for node in nodes],
        "servers.json": [asdict(server) for server in config.servers],
    }
    daemons.write_files(
        HERE, place, files | {name: json.dumps(value, default=str) for name, value in kept.items()}, key
    )
    daemons.start_munge(HERE, place)
    daemons.start_head(HERE, place)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda found: _start(found, place, files, key, say), able))
    _wait_for_nodes([found for found in able if not found.faults], place)
    return probes


def _unpack(servers: list[Server], place: Layout) -> dict[str, list[str]]:
    """Unpack Slurm on servers that lack it. Return the reasons for a failure, or none, per server."""
    archived = archive()

    def bring(server: Server) -> list[str]:
        try:
            unpack(server, place, archived)
        except (Refusal, Unreachable) as error:
            return [f"--unpack: {error}"]
        return []

    with ThreadPoolExecutor(16) as pool:
        return dict(zip((server.name for server in servers), pool.map(bring, servers), strict=True))


def _start(found: Probe, place: Layout, files: dict[str, str], key: bytes, say: Callable[[str], None]) -> None:
    """Start one server; whatever goes wrong becomes one of its faults."""
    server, project = found.server, Path.cwd()
    try:
        lacks_packages = not found.shares_disk and packages.are_in(project)
        if not server.is_local:
            prolog = packages.prolog(place) if lacks_packages else ""
            daemons.write_files(server, place, files_of(files, found.plugins, prolog, place), key)
            daemons.start_munge(server, place)
        if not found.shares_disk:
            if not is_mounted(server, project):
                mount(server, project, _mount_record(server, place))
            script_on(server, MAKE + 'mkdir -p -- "$root/cache"', str(place.root))
        if lacks_packages:
            packages.bring(server, place, say)
        if reason := why_no_python(server):
            raise Refusal(
                f"its Python differs or .venv is not seen there ({reason}); run Rootstock from .venv in the project"
            )
        daemons.start_node(server, place)
    except (Unreachable, subprocess.CalledProcessError) as error:
        found.faults.append(daemons.reason_of(error))
    except Refusal as error:
        found.faults.append(str(error))


def _wait_for_nodes(started: list[Probe], place: Layout, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        states = node_states(place)
        missing = [found for found in started if not _takes_part(states.get(found.server.name, ""))]
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    for found in missing:
        found.faults.append(
            f"Slurm says {states.get(found.server.name, 'unknown')}: are TCP ports {ports()}–{ports() + 100} open both ways? "
            f"see cluster.py logs {found.server.host}"
        )


def node_states(place: Layout) -> dict[str, str]:
    """The state of each node in Slurm's words; empty if no slurmctld answers."""
    if (
        not own_cluster() or not place.slurm_conf.exists()
    ):  # without slurm.conf, Slurm's commands search the DNS for half a minute
        return {}
    try:
        told = subprocess.run(
            ["sinfo", "--Node", "--noheader", "--format=%N %T"],
            env=os.environ | {"SLURM_CONF": str(place.slurm_conf)}, capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split()[:2] for line in told.splitlines())


def down(config: ClusterConfig) -> list[str]:
    """Stop all daemons and jobs and remove everything that `up` made, even on servers that have left the configuration.
    Return one line per server where that failed."""
    place = layout()
    if node_states(place):
        command = ["scancel", "--user", str(os.getuid())]
        subprocess.run(command, env=os.environ | {"SLURM_CONF": str(place.slurm_conf)}, capture_output=True, timeout=60)
        time.sleep(1)
    daemons.stop(HERE, place, "slurmctld")
    left = _end(list({server.name: server for server in [*_servers_before(place), *config.servers]}.values()), place)
    daemons.stop(HERE, place, "munged")
    daemons.remove(HERE, place)
    return left


def _end(servers: list[Server], place: Layout) -> list[str]:
    """Stop the cluster on servers and remove its files there. Return one line per server where that failed."""

    def end(server: Server) -> str | None:
        try:
            daemons.stop(server, place, f"slurmd-{server.name}", "munged")
            unmount(server, Path.cwd(), _mount_record(server, place))
            if not server.is_local:  # this machine goes last: it keeps the records of the others' mounts
                daemons.remove(server, place)
        except (Unreachable, subprocess.CalledProcessError) as error:
            unmount(server, Path.cwd(), _mount_record(server, place))
            return f"{server.host}: {place.root} may be left there ({daemons.reason_of(error)})"
        return None

    with ThreadPoolExecutor(16) as pool:
        return [line for line in pool.map(end, servers) if line]


def _servers_before(place: Layout) -> list[Server]:
    """The servers of the last `up`."""
    before = _noted(place, "servers.json")
    paths = ("ssh_key", "known_hosts")
    return [Server(**server | {name: server[name] and Path(server[name]) for name in paths}) for server in before]


def _noted(place: Layout, name: str) -> list[Any]:
    """What the last `up` recorded in a file; empty if there was none."""
    file = place.slurm_conf.with_name(name)
    return json.loads(file.read_text()) if own_cluster() and file.exists() else []


def _takes_part(state: str) -> bool:
    taking_part = ("idle", "mixed", "allocated", "completing", "planned")
    return state.rstrip("*~#$@+-").lower() in taking_part and not state.endswith("*")


def _nodes(probes: list[Probe], here: str, place: Layout) -> list[Node]:
    """The nodes of all servers that can take part. An unreachable server keeps its old entry, because it still has its
    jobs and may come back."""
    before = _noted(place, "nodes.json")
    known = {node["name"]: Node(**node | {"devices": tuple(node["devices"])}) for node in before}
    nodes = [
        known.get(found.server.name) if not found.reachable else _node(found, number, here)
        for number, found in enumerate(probes)
        if not found.reachable or not found.faults
    ]
    return [node for node in nodes if node]


def _node(found: Probe, number: int, here: str) -> Node:
    server = found.server
    address = here if server.is_local else server.host
    return Node(server.name, found.hostname, address, ports() + 1 + number, found.cpus, found.memory_mb, found.devices)


def _address(able: list[Probe]) -> str:
    """This machine's address on the route to the first other server. Raise `Refusal` if its name does not resolve."""
    for found in able:
        server = found.server
        if server.is_local:
            continue
        try:
            family, kind, *_, target = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
        except OSError:
            reason = "only your ssh knows this name, Slurm's daemons need an address: give that as the host"
            raise Refusal(f"{server.host}: {reason}") from None
        with socket.socket(family, kind) as probe_socket:
            probe_socket.connect(target)  # a datagram socket: nothing is sent
            return probe_socket.getsockname()[0]
    return "127.0.0.1"


def _mount_record(server: Server, place: Layout) -> Path:
    return place.pids / f"mount-{server.name}.json"
