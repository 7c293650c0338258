"""Servers for tests: each a network, mount, host-name and process namespace with its own sshd, address, disk and GPUs."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

# $1 host name, $2 folder hidden by an empty one (it has the project in it), $3 folder of keys and configuration, $4 sshd,
# $5 whether Slurm and munge are installed
BOOT = r"""
set -eu
hostname "$1"; mount --make-rprivate /
for folder in /var/tmp /run "$2"; do mount -t tmpfs -o mode=1777 tmpfs "$folder"; done
mkdir -p /run/sshd
mount -t tmpfs -o mode=755 tmpfs /mnt; mkdir /mnt/pts /mnt/shm
cp -a /dev/null /dev/zero /dev/random /dev/urandom /dev/tty /dev/fuse /mnt; chmod 1777 /mnt/shm
ln -s pts/ptmx /mnt/ptmx; ln -s /proc/self/fd /mnt/fd
mknod /mnt/nvidia0 c 195 0; mknod /mnt/nvidia1 c 195 1
if [ "$5" = no ]; then
    for program in slurmd slurmstepd munged srun; do mount --bind /dev/null "$(command -v $program)"; done
    for folder in /usr/lib/*/slurm-wlm; do mount -t tmpfs tmpfs "$folder"; done
fi
mount --bind /mnt /dev; mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
exec "$4" -D -e -f "$3/sshd_config"
"""


def missing() -> str:
    """Why such servers cannot be made here; empty where they can."""
    if os.geteuid() != 0:
        return "not root: no namespaces with addresses and disks of their own"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in ("ip", "unshare", "sshd", "ssh", "sshfs", "slurmctld", "slurmd", "munged"):
        if shutil.which(program, path=path) is None:
            return f"not installed: {program}"
    return "" if os.access("/dev/fuse", os.W_OK) else "no /dev/fuse"


class Servers:
    """`server1`, `server2`, …: this machine reaches each by ssh; each reaches this machine by no more than its network."""

    def __init__(self, folder: Path, hidden: Path, count: int = 2, has_slurm: bool = True):
        self.folder, self.hidden, self.tag = folder, hidden, f"rs{os.getpid() % 10000}"
        self.has_slurm = "yes" if has_slurm else "no"
        self.net = f"10.{77 + os.getpid() % 100}.{os.getpid() % 250}"
        self.names = [f"server{number + 1}" for number in range(count)]
        self.processes: dict[str, subprocess.Popen] = {}
        folder.mkdir()
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        (folder / "sshd_config").write_text(
            f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\nMaxStartups 100\n"
        )
        public = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text("".join(f"{self.address(name)} {public}\n" for name in self.names))
        self._ip("link", "add", f"{self.tag}br", "type", "bridge")
        self._ip("addr", "add", f"{self.net}.1/24", "dev", f"{self.tag}br")
        self._ip("link", "set", f"{self.tag}br", "up")
        for name in self.names:
            self.boot(name)

    def address(self, name: str) -> str:
        return f"{self.net}.{10 + self.names.index(name)}"

    def boot(self, name: str) -> None:
        """Make a server, or the same one again after `kill`: its disk is then empty."""
        space, link = f"{self.tag}{name}", f"{self.tag}v{self.names.index(name)}"
        self._ip("netns", "add", space)
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("link", "set", link, "master", f"{self.tag}br", "up")
        for words in (["addr", "add", f"{self.address(name)}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            self._ip("-n", space, *words)
        self._ip("-n", space, "link", "set", "lo", "up")
        kinds = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        boot = ["sh", "-c", BOOT, "sh", name, str(self.hidden), str(self.folder), "/usr/sbin/sshd", self.has_slurm]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{space}", "unshare", *kinds, *boot],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120  # a busy machine starts it late
        while self.ssh(name, "true").returncode:
            assert time.monotonic() < deadline, (self.folder / f"{name}.log").read_text()
            time.sleep(0.1)

    def ssh(self, name: str, *command: str) -> subprocess.CompletedProcess:
        flags = ["-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-i", str(self.folder / "user_key")]
        return subprocess.run(
            ["ssh", "-o", "BatchMode=yes", *flags, self.address(name), *command],
            capture_output=True,
            text=True,
            timeout=60,
        )

    def kill(self, name: str) -> None:
        """As when the plug is pulled: all its processes, its disk and its network are gone."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        self._ip("netns", "delete", f"{self.tag}{name}")
        subprocess.run(["ip", "link", "delete", f"{self.tag}v{self.names.index(name)}"], capture_output=True)

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self._ip("link", "delete", f"{self.tag}br")

    def entries(self) -> list[dict]:
        """They as `servers` of a cluster_config.json."""
        key = str(self.folder / "user_key")
        return [{"host": self.address(n), "user": "root", "gpus": 2, "port": 22, "ssh_key": key} for n in self.names]

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)
