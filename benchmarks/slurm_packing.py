"""Wall seconds of 200 fine-tunes of two seconds on 6 GPUs of a real Slurm: one job each, and packed into jobs of 34.

    python benchmarks/slurm_packing.py [--repeats 1] [--epochs 12]

The whole workflow runs with the profile `slurm`, as a user's does; base models are trained before the clock starts. A
single one of these fine-tunes takes about two seconds by command, including loading torch; this is measured first and
printed. The cluster is that of the tests: one controller and three nodes of two GPUs on this machine, whose cores all
jobs share.
"""

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow/scripts")]

from conftest import plan  # noqa: E402
from slurm_cluster import Cluster  # noqa: E402
from tiny import write_people  # noqa: E402
from warm_jobs import command  # noqa: E402

PEOPLE, RATES, SHARES = ("ann", "bob", "cleo"), 10, 10
PACKED = 34  # 200 fine-tunes on 6 GPUs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12, help="of each fine-tune")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "cluster")
        try:
            cluster.start()
            project = _project(Path(folder) / "project", args.epochs)
            _run(cluster, project, "train_base")
            print(f"one by command: {_alone(project):.1f} s", flush=True)
            found = {size: [] for size in (1, PACKED)}
            for _ in range(args.repeats):
                for size, seconds in found.items():
                    seconds.append(_tuned(cluster, project, size))
                    print(f"{size} in a Slurm job: {seconds[-1]:.0f} s", flush=True)
            single, packed = (statistics.median(seconds) for seconds in found.values())
            print(f"single / packed: {single / packed:.2f}")
        finally:
            cluster.stop()


def _project(folder: Path, epochs: int) -> Path:
    folder.mkdir()
    for name in ("Snakefile", "workflow", "profiles", "slurm", "config"):
        (folder / name).symlink_to(ROOT / name)
    write_people(folder / "data", PEOPLE, channels=6, samples=400, n=96)
    finetune = {
        "mode": "full_fine_tuning",
        "lr": [0.001 * (1 + number) for number in range(RATES)],
        "target_data_pct": [0.5 + 0.05 * number for number in range(SHARES)],
        "max_epochs": epochs,
    }
    study = {
        "study": "packing",
        "data": {"path": "data"},
        "participants": list(PEOPLE),
        "folds": [0, 1],
        "baselines": [],
    }
    base = {"max_epochs": 2, "batch_size": 32}
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "base": base, "finetune": finetune}))
    return folder


def _run(cluster: Cluster, project: Path, until: str, size: int = 1) -> None:
    command = [str(Path(sys.executable).parent / "snakemake"), "--profile", "slurm", "--latency-wait", "5"]
    command += ["--configfile", "study.yaml", "--until", until, "--group-components", f"finetunes={size}"]
    done = subprocess.run(command, cwd=project, env=cluster.environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])


def _tuned(cluster: Cluster, project: Path, size: int) -> float:
    """Seconds of all fine-tunes, after earlier ones are removed."""
    _forget(project)
    started = time.monotonic()
    _run(cluster, project, "train_finetune", size)
    seconds = time.monotonic() - started
    count = len(list((project / "experiments").rglob("metrics.json")))
    if count != RATES * SHARES * 2:
        sys.exit(f"{count} fine-tunes instead of {RATES * SHARES * 2}")
    return seconds


def _forget(project: Path) -> None:
    """Remove the fine-tunes from `experiments/` and from the store."""
    shutil.rmtree(project / "experiments", ignore_errors=True)
    bases = {path.stem for path in (project / "base_models").glob("*.pt")}
    for kept in (project / ".rootstock/store").iterdir():
        if kept.is_dir() and kept.name not in bases:
            shutil.rmtree(kept)


def _alone(project: Path) -> float:
    """Seconds of one fine-tune by the rule's command, without Snakemake, Slurm and the warm process."""
    _forget(project)
    with contextlib.chdir(project):
        one = next(iter(plan(**yaml.safe_load(Path("study.yaml").read_text())).experiments.values()))
        words = [word for word in command(one) if word != "--warm"]
        started = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
