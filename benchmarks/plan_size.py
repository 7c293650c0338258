"""CPU seconds and memory of a plan, a dry run and the Snakemake in one Slurm job, for 1,008 experiments and more.

    python benchmarks/plan_size.py [--times 1 10 100]

For comparison, a dry run of as many trivial jobs, with shell commands and one input function, shows what Snakemake
itself takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "workflow/scripts"
LINKS = ("Snakefile", "workflow", "profiles", "config", "local")
TRIVIAL = """
rule all:
    input: [f"tuned/{{number}}/done" for number in range({count})]
rule base:
    output: "bases/{{name}}.pt"
    shell: "touch {{output}}"
rule tune:
    input: lambda wildcards: f"bases/{{int(wildcards.number) % 54}}.pt"
    output: "tuned/{{number}}/done"
    shell: "touch {{output}}"
"""
PLANNED = """
import sys
sys.path.insert(0, {scripts!r})
from rootstock.controller.planning import collect_garbage_rarely, content_of_workflow, plan_content
from rootstock.controller.rows import keep_rows
collect_garbage_rarely()
plan = plan_content(content_of_workflow(["big.yaml"], {{}}))
print(len(plan.bases) + len(plan.experiments), *list(plan.experiments)[-1], flush=True)
if {keep}:
    keep_rows(plan)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    for times in arguments.parse_args().times:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), times)


def measure(folder: Path, times: int) -> None:
    for name in LINKS:
        (folder / name).symlink_to(ROOT / name)
    study = yaml.safe_load((ROOT / "config/studies/shared_base_grid.yaml").read_text())
    study["finetune"]["seed_finetune"] = list(range(times))
    (folder / "big.yaml").write_text(yaml.safe_dump(study))
    seconds, peak, said = cost(folder, "-c", PLANNED.format(scripts=str(SCRIPTS), keep=False))
    trainings = int(said.split()[0])
    print(f"{trainings} trainings\n  plan: {seconds:.2f} CPU s, {peak} MB")
    cost(folder, "-c", PLANNED.format(scripts=str(SCRIPTS), keep=True))
    (rows,) = (folder / ".rootstock/plans").glob("*.sqlite")
    prefix, unit = said.split()[1:]
    target = (
        "--target-jobs",
        f"train_finetune:prefix={prefix},unit={unit}",
        "--allowed-rules",
        "train_finetune",
        "--force",
    )
    job = (
        "-m",
        "snakemake",
        "--mode",
        "remote",
        "--executor",
        "dryrun",
        "-n",
        "--cores",
        "1",
        "--configfile",
        "big.yaml",
        *target,
    )
    seconds, peak, _ = cost(folder, *job, ROOTSTOCK_PLAN=str(rows.relative_to(folder)))
    print(f"  the Snakemake of one Slurm job: {seconds:.2f} CPU s, {peak} MB", flush=True)
    seconds, peak, _ = cost(
        folder, "-m", "snakemake", "-n", "-q", "all", "--profile", "local", "--configfile", "big.yaml"
    )
    print(f"  dry run: {seconds:.2f} CPU s, {peak} MB", flush=True)
    (folder / "trivial.smk").write_text(TRIVIAL.format(count=trainings - 54))
    flags = ("-s", "trivial.smk", "--workflow-profile", "none", "--cores", "2", "--scheduler", "greedy")
    seconds, peak, _ = cost(folder, "-m", "snakemake", "-n", "-q", "all", *flags)
    print(f"  dry run of as many trivial jobs: {seconds:.2f} CPU s, {peak} MB", flush=True)


def cost(folder: Path, *command: str, **variables: str) -> tuple[float, int, str]:
    """CPU seconds of a Python command, its peak memory in MB, and its output."""
    begun = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    said, complained = begun.stdout.read(), begun.stderr.read()
    _, status, used = os.wait4(begun.pid, 0)
    if status:
        raise SystemExit(complained or said)
    return used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, said


if __name__ == "__main__":
    main()
