"""The text of slurm.conf, gres.conf and cgroup.conf for an ordinary user's cluster. Pure: no disk, no network."""

from dataclasses import dataclass
from pathlib import Path

from ..machine.private import model_cache

JOB_MARK = "rootstock-"  # the beginning of the name of each of our Slurm jobs


@dataclass(frozen=True)
class Node:
    """One worker as Slurm sees it. `devices` are the device files of its GPUs; each must end in the GPU's number."""

    name: str
    hostname: str
    address: str
    port: int
    cpus: int
    memory_mb: int
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """Where slurmctld runs: the host's own short name, and the address and port at which the nodes reach it."""

    hostname: str
    address: str
    port: int


@dataclass(frozen=True)
class Layout:
    """Where the cluster keeps its files: the same folder on every server, because they share one configuration."""

    root: Path

    @property
    def slurm_conf(self) -> Path:
        return self.root / "etc/slurm.conf"

    @property
    def task_prolog(self) -> Path:
        return self.root / "etc/task_prolog"

    @property
    def munge_key(self) -> Path:
        return self.root / "munge/munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.root / "socket/munge.socket"

    @property
    def cache(self) -> Path:
        return model_cache(self.root)

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def pids(self) -> Path:
        return self.root / "run"


def configuration(name: str, user: str, head: Head, nodes: list[Node], layout: Layout) -> dict[str, str]:
    """The three files by name."""
    return {
        "slurm.conf": slurm_conf(name, user, head, nodes, layout),
        "gres.conf": gres_conf(nodes),
        "cgroup.conf": "CgroupAutomount=no\n",
    }


def files_of(files: dict[str, str], plugins: str, prolog: str, layout: Layout) -> dict[str, str]:
    """The files as one node needs them.

    `plugins` is the folder of its Slurm plugins, or empty for the default; `prolog` is a script that Slurm runs there
    before each task, or empty.
    """
    more = f"PluginDir={plugins}\n" if plugins else ""
    if prolog:
        more += f"TaskProlog={layout.task_prolog}\n"
        files = files | {layout.task_prolog.name: prolog}
    return files | {"slurm.conf": files["slurm.conf"] + more}


def slurm_conf(name: str, user: str, head: Head, nodes: list[Node], layout: Layout) -> str:
    """The text of slurm.conf. Jobs share nodes by CPUs, memory and GPUs. A job that is preempted, or whose node dies,
    goes back into the queue."""
    root = layout.root
    general = {
        "ClusterName": name,
        "SlurmctldHost": f"{head.hostname}({head.address})",
        "SlurmctldPort": head.port,
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        # cred_expire is also how long a requeued job waits before it starts; 120 s by default.
        "AuthInfo": f"socket={layout.munge_socket},cred_expire=30",
        "StateSaveLocation": root / "state",
        "SlurmdSpoolDir": root / "spool/%n",
        "SlurmctldPidFile": layout.pids / "slurmctld.pid",
        "SlurmdPidFile": layout.pids / "slurmd-%n.pid",
        "SlurmctldLogFile": layout.logs / "slurmctld.log",
        "SlurmdLogFile": layout.logs / "slurmd-%n.log",
        # Without root there are no cgroups: Slurm sets CUDA_VISIBLE_DEVICES, and Rootstock hides all other GPUs.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "MpiDefault": "none",
        "SwitchType": "switch/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2",
        "SlurmdParameters": "config_overrides",
        "DebugFlags": "NO_CONF_HASH",  # PluginDir and TaskProlog may differ from node to node
        "GresTypes": "gpu",
        # A node that was unreachable takes part again as soon as its slurmd answers.
        "ReturnToService": 2,
        "SlurmdTimeout": 20,
        "SlurmctldTimeout": 30,
        "InactiveLimit": 0,
        "KillWait": 30,
        "MinJobAge": 3600,
        "MaxJobCount": 100000,
        "JobRequeue": 1,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "PropagateResourceLimits": "NONE",
    }
    lines = [f"{key}={value}" for key, value in general.items()]
    lines += [_node_line(node) for node in nodes]
    names = ",".join(node.name for node in nodes)
    lines += [
        f"PartitionName=gpu Nodes={names} Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=REQUEUE",
        f"PartitionName=high Nodes={names} Default=NO MaxTime=INFINITE DefaultTime=60 PriorityTier=10 PreemptMode=OFF",
    ]
    return "\n".join(lines) + "\n"


def gres_conf(nodes: list[Node]) -> str:
    """The text of gres.conf: one line per GPU. `File=` makes Slurm set CUDA_VISIBLE_DEVICES."""
    return "".join(
        f"NodeName={node.name} Name=gpu File={device} Flags=nvidia_gpu_env\n"
        for node in nodes
        for device in node.devices
    )


def _node_line(node: Node) -> str:
    gres = f" Gres=gpu:{len(node.devices)}" if node.devices else ""
    place = f"NodeName={node.name} NodeHostname={node.hostname} NodeAddr={node.address} Port={node.port}"
    return f"{place} CPUs={node.cpus} RealMemory={node.memory_mb}{gres} State=UNKNOWN"
