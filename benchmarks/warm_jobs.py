"""CPU seconds of a tiny fine-tune as a job, warm and cold, and whether the warm process grows.

    python benchmarks/warm_jobs.py commands [--count 1000]     as many fine-tunes by the rule's command, two at a time; none may be lost
    python benchmarks/warm_jobs.py workflow [--repeats 3]      through Snakemake: 40 fine-tunes against 10, by turns, all processes counted

The fine-tune is one epoch of nine steps on 24 windows. The CPU time of the warm process and of all that it forked
is counted.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow/scripts")]
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

from conftest import WARM_ROOT, Project, end_warm, plan, warm_processes  # noqa: E402
from tiny import TINY  # noqa: E402

from rootstock.study import paths  # noqa: E402
from rootstock.study.identity import canonical  # noqa: E402
from rootstock.study.plan import Experiment  # noqa: E402
from rootstock.study.run import Run  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("commands", "workflow"))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # it would have each job compile what it imports
    with tempfile.TemporaryDirectory() as folder:
        os.environ[WARM_ROOT] = f"{folder}/warm"
        try:
            commands(Path(folder), args.count) if args.what == "commands" else workflow(Path(folder), args.repeats)
        finally:
            end_warm(Path(folder, "warm"))


def study(count: int, warm: bool = True) -> dict:
    """`count` different fine-tunes on one base model."""
    finetune = {
        "mode": "full_fine_tuning",
        "max_epochs": 1,
        "lr": [0.001 + 0.00001 * number for number in range(count)],
    }
    more = {"finetune": finetune, "run": {"warm": warm, "device": "cpu"}}
    return TINY["activity"].content({"base": {"max_epochs": 1}}) | more


def project_in(folder: Path) -> Project:
    folder.mkdir()
    TINY["activity"].write(folder / "data/tiny")
    return Project(folder)


def commands(folder: Path, count: int) -> None:
    project = project_in(folder / "project")
    os.chdir(project.folder)
    planned = plan(**study(count))
    project.publish_here(study(1))
    words = [command(one) for one in planned.experiments.values()]
    run(words[0])
    run(words[1])
    (server,) = warm_processes(folder / "warm", "python")
    before, cpu = state(server), cpu_seconds(server)
    with ThreadPoolExecutor(2) as pool:
        failed = [status for status in pool.map(run, words[2:]) if status]
    used = (cpu_seconds(server) - cpu) / (count - 2)
    done = len(list(project.folder.glob("experiments/*/*/metrics.json")))
    print(f"{done} of {count} done, {len(failed)} failed, {1000 * used:.0f} ms of CPU each")
    time.sleep(1)  # supervisors end after their clients
    print(f"the warm process before: {before}\n                  after: {state(server)}")
    print(f"processes left: {len(warm_processes(folder / 'warm'))}")


def command(one: Experiment) -> list[str]:
    """The command of a fine-tune, as Snakemake runs it."""
    parts = ["--spec", one.json, "--base", paths.base_model(one.base), "--data_path", one.data, "--expect", one.expect]
    script = [sys.executable, "workflow/scripts/train_finetune.py", *parts, "--run", canonical(Run())]
    return [
        "bash",
        "-c",
        'set -euo pipefail; "$@"',
        "bash",
        *script,
        "--asked_by",
        "bench",
        "--output",
        one.path,
        "--warm",
    ]


def run(words: list[str]) -> int:
    return subprocess.run(words, stdout=subprocess.DEVNULL).returncode


def state(pid: int) -> str:
    """Memory and open files of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    memory = f"{kilobytes['Rss'] / 1024:.1f} MB resident, {kilobytes['Anonymous'] / 1024:.1f} MB its own"
    return f"{memory}, {len(os.listdir(f'/proc/{pid}/fd'))} open files"


def cpu_seconds(server: int | None) -> float:
    """CPU seconds of all ended children of this process, and of a warm process and all that it forked."""
    mine = resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split() if server else ["0"] * 15
    return mine.ru_utime + mine.ru_stime + sum(map(int, fields[11:15])) / TICK


def workflow(folder: Path, repeats: int) -> None:
    """Measure runs whose base model is trained and whose warm process runs already."""
    found: dict[tuple[bool, int], list[float]] = {}
    for repeat in range(repeats):
        for warm in (True, False):
            for count in (10, 40):
                project = project_in(folder / f"{repeat}_{warm}_{count}")
                file = project.study("bench", study(1, warm))
                project.snakemake("--configfile", file, "--until", "train_finetune")
                servers = warm_processes(folder / "warm", "python")
                before = cpu_seconds(servers[0] if warm else None)
                project.study("bench", study(count + 1, warm))
                project.snakemake("--configfile", file, "--until", "train_finetune")
                found.setdefault((warm, count), []).append(cpu_seconds(servers[0] if warm else None) - before)
    for warm in (True, False):
        each = [(many - few) / 30 for few, many in zip(found[warm, 10], found[warm, 40], strict=True)]
        told = "–".join(f"{value:.3f}" for value in (min(each), statistics.median(each), max(each)))
        print(f"{'warm' if warm else 'cold'}: {told} CPU s a fine-tune (min–median–max of {repeats})", flush=True)


if __name__ == "__main__":
    main()
