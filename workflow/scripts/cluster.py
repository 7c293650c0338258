#!/usr/bin/env python
"""A Slurm cluster out of a list of servers with SSH: up, then `snakemake --profile slurm`, then down.

    cluster.py up     --cluster-config cluster_config.json     check the servers, say what is missing, start the rest;
                                                               --unpack brings Slurm to those without it, where nobody is root
    cluster.py check  --cluster-config cluster_config.json     only check
    cluster.py status                                          what each server is, and what Slurm says of it
    cluster.py logs HOST                                       the end of a server's slurmd log
    cluster.py clean                                           forget base models and old packages copied to servers without a shared disk
    cluster.py down                                            end everything, remove everything that up made

cluster_config.json: {"servers": [{"host": "gpu1", "user": "me", "gpus": 2, "port": 22, "ssh_key": "~/.ssh/id_ed25519"}]}
"""

import subprocess
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rootstock.cluster import cluster, daemons, packages
from rootstock.cluster.config import ClusterConfig, read_cluster_config
from rootstock.cluster.probe import Probe
from rootstock.cluster.root import CHECK
from rootstock.cluster.ssh import Unreachable, script_on
from rootstock.commands import cli
from rootstock.study.problems import Refusal, nearest

FORGET = (
    CHECK
    + r"""
test "$there" && test -d "$root/cache" || exit 0
find "$root/cache" -maxdepth 1 -type f \( -name "*.pt" -o -name ".*.half" \) -delete
"""
)
COMMANDS = ("up", "check", "status", "logs", "clean", "down")


def main() -> int:
    parser = cli.parser(__doc__)
    parser.usage = "%(prog)s {up,check,status,logs,clean,down} [HOST] [flags]"
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("host", nargs="?", help="for logs: which server")
    parser.add_argument("--cluster-config", default="cluster_config.json", help="default: cluster_config.json")
    parser.add_argument(
        "--unpack", action="store_true", help="for up: bring Slurm to servers that lack it, without root"
    )
    args = parser.parse_args()
    config = read_cluster_config(args.cluster_config)
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    cluster.layout()  # before anything is asked or started: what is in its place may be somebody else's
    match args.command:
        case "up":
            return _up(config, args.unpack)
        case "check":
            return _show(cluster.probe_all(config))
        case "status":
            return _show(cluster.probe_all(config), with_slurm=True)
        case "logs":
            return _logs(config, args.host)
        case "clean":
            return _clean(config)
    left = cluster.down(config)
    for line in left:
        cli.say(line)
    return 1 if left else 0


def _up(config: ClusterConfig, may_unpack: bool) -> int:
    status = _show(cluster.up(config, may_unpack, cli.say), with_slurm=True)
    if cluster.node_states(cluster.layout()):
        print(f"Now: snakemake --profile slurm     (sinfo, squeue: export SLURM_CONF={cluster.layout().slurm_conf})")
    return status


def _show(probes: list[Probe], with_slurm: bool = False) -> int:
    """One table; below it what is missing, a line each. 1 unless every server is as it should be."""
    states = cluster.node_states(cluster.layout()) if with_slurm else {}
    table = Table(box=None, pad_edge=False)
    for title in ("server", "Slurm", "CPUs", "GPUs", "disk", *(["state"] if with_slurm else []), ""):
        table.add_column(title, no_wrap=True)
    for found in probes:
        disk = "" if not found.reachable else "shared" if found.shares_disk else "mounted"
        row = [
            found.server.host,
            found.slurm,
            str(found.cpus or ""),
            f"{len(found.devices)} of {found.server.gpus}",
            disk,
        ]
        row += [states.get(found.server.name, "not running")] if with_slurm else []
        table.add_row(*map(Text, [*row, "missing something" if found.faults else "ready"]))
    Console(soft_wrap=True).print(table)
    for found in probes:
        for fault in found.faults:
            cli.say(f"{found.server.host}: {fault}")
    return 1 if any(found.faults for found in probes) else 0


def _logs(config: ClusterConfig, host: str | None) -> int:
    servers = {server.host: server for server in config.servers}
    if host not in servers:
        raise Refusal(f"logs: {host!r} is no server of the configuration; {nearest(host, servers)}")
    try:
        print(cli.printable(daemons.last_lines(servers[host], cluster.layout())), end="")
    except Unreachable as error:
        raise Refusal(f"{host}: not reachable: {error}") from None
    return 0


def _clean(config: ClusterConfig) -> int:
    status = 0
    for server in config.servers:
        try:
            script_on(server, FORGET, str(cluster.layout().root))
            packages.forget_others(server, cluster.layout())
        except (Unreachable, subprocess.CalledProcessError) as error:
            status = 1
            cli.say(f"{server.host}: {daemons.reason_of(error)}")
    return status


def run() -> int:
    try:
        return main()
    except subprocess.CalledProcessError as error:
        raise Refusal(daemons.reason_of(error)) from None


if __name__ == "__main__":
    cli.run(run)
