"""Wall seconds of 24 one-second jobs (2 bases, 22 fine-tunes on them) on 6 GPUs of a real Slurm.

    python benchmarks/slurm_throughput.py [--repeats 3]

The same Snakefile runs with the profile `slurm` and Rootstock's changes to the executor, and with the unchanged plugin,
except for the command that asks for the state of jobs: its default, sacct, does not answer on a cluster without
accounting. The cluster is that of the tests: one controller and three nodes of two GPUs on this machine.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow/scripts")]

from slurm_cluster import Cluster  # noqa: E402

JOBS = """
import sys
sys.path.insert(0, {scripts!r})
from rootstock.slurm.executor import prepare_run

rule all:
    localrule: True
    input: expand("tune{{n}}", n=range(22))

rule base:
    output: "base{{n,[0-9]+}}"
    resources: gpu=1, nodes=1, mem_mb=100, runtime=5
    shell: "sleep 1; touch {{output}}"

rule tune:
    input: lambda wildcards: f"base{{int(wildcards.n) % 2}}"
    output: "tune{{n,[0-9]+}}"
    resources: gpu=1, nodes=1, mem_mb=100, runtime=5
    shell: "sleep 1; touch {{output}}"

onstart:
    prepare_run(workflow.scheduler._executor, print) if {tuned} else None
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "cluster")
        try:
            cluster.start()
            for name, tuned in (("Rootstock", True), ("plugin with squeue", False)):
                seconds = [measure(cluster, Path(folder) / f"{name} {i}", tuned) for i in range(repeats)]
                shown = ", ".join(f"{value:.0f}" for value in seconds)
                print(f"{name}: median {statistics.median(seconds):.0f} s of {shown}", flush=True)
        finally:
            cluster.stop()


def measure(cluster: Cluster, folder: Path, tuned: bool) -> float:
    folder.mkdir()
    (folder / "Snakefile").write_text(JOBS.format(scripts=str(ROOT / "workflow/scripts"), tuned=tuned))
    (folder / "profile").symlink_to(ROOT / "profiles/slurm")
    snakemake = str(Path(sys.executable).parent / "snakemake")
    flags = (
        ["--profile", "profile"]
        if tuned
        else ["--executor", "slurm", "--jobs", "100", "--slurm-status-command", "squeue"]
    )
    started = time.monotonic()
    done = subprocess.run(
        [snakemake, *flags], cwd=folder, env=_environment(cluster, tuned), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return time.monotonic() - started


def _environment(cluster: Cluster, tuned: bool) -> dict[str, str]:
    """The variables of a run. The plugin's second Snakemake loses SLURM_CONF, so a wrapper of srun sets it again."""
    if tuned:
        return cluster.environment
    bin_folder = cluster.root / "bin"
    bin_folder.mkdir(exist_ok=True)
    srun = bin_folder / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={cluster.layout.slurm_conf} exec /usr/bin/srun "$@"\n')
    srun.chmod(0o755)
    return cluster.environment | {"PATH": f"{bin_folder}:{cluster.environment['PATH']}"}


if __name__ == "__main__":
    main()
