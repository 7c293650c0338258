"""Compare the memory of trainings with what their rules ask for: `python benchmarks/memory_asked.py [name …]`.

Snakemake runs each study with `run: {warm: false}`, one job after another. The peak is the largest resident set of the
training's process: its own pages, those of torch's libraries, and those of mapped files.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import PEOPLE, write_people

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))
LINKS = ("Snakefile", "workflow", "profiles", "config", "local")
MODES = ["full_fine_tuning", "last_layer_only", "target_only"]
TOLD = """
import atexit, os, resource, sys
def tell():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open(os.environ["PEAKS"], "a") as file:
        file.write(f"{peak // 1024} {sys.argv[sys.argv.index('--output') + 1]}\\n")
atexit.register(lambda: tell() if sys.argv[0].endswith(("train_base.py", "train_finetune.py")) else None)
"""
FOLDER = {"data": {"path": "data"}, "folds": [0], "finetune": {"mode": MODES, "max_epochs": 1}}
AUGMENTED = {"max_epochs": 1, "use_augmentation": True, "mixup_alpha": 0.3}
PATO = {"ontologies": ["pato"], "max_queries": 1, "split": [0.6, 0.1, 0.3]}
SMALL_TEXT = {"domains": ["cells", "qualities"]}
STUDIES = {  # a shipped study or none, and the changes to it
    "smartwatch": ("config/config.yaml", {"folds": [0], "base": {"max_epochs": 1}}),
    "quick_test": ("config/studies/quick_test.yaml", {"folds": [0]}),
    "1 GB of windows": (None, FOLDER | {"base": AUGMENTED}),
    "1 GB of windows, pooled, batch 256": (None, FOLDER | {"base": AUGMENTED | {"model": "pooled", "batch_size": 256}}),
    "windows, medium": (None, FOLDER | {"base": {"max_epochs": 1, "model": "medium"}}),
    "distillation_quick_test": ("config/studies/distillation_quick_test.yaml", {"save_to_artifacts": False}),
    "distillation, six layers": (
        None,
        {
            "task": "distillation",
            "data": PATO,
            "base": {"max_samples_per_dataset": 384, "batch_size": 64},
            "finetune": {"max_samples": 256, "batch_size": 64, "num_negatives": 2},
        },
    ),
    "language_model_quick_test": ("config/studies/language_model_quick_test.yaml", {}),
    "language_model": (
        "config/studies/language_model.yaml",
        {"run": {"compile": False}, "data": SMALL_TEXT | {"vocab_size": 4096}, "domains": ["cells"],
         "base": {"max_steps": [8], "eval_every": 4, "warmup_steps": 1},
         "finetune": [{"mode": "cool_down", "max_steps": 4, "eval_every": 4, "warmup_steps": 1}]},
    ),
    "language_model_384x6": (
        "config/studies/language_model_384x6.yaml",
        {"run": {"compile": False, "gpus": 0, "threads": 2}, "data": SMALL_TEXT | {"vocab_size": 8192},
         "domains": ["cells"], "export": False,
         "base": {"max_steps": [2], "eval_every": 2, "warmup_steps": 1, "eval_tokens": 4096},
         "finetune": [{"mode": "cool_down", "max_steps": 2, "eval_every": 2, "warmup_steps": 1}]},
    ),
}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("names", nargs="*", help=f"of {', '.join(STUDIES)} (default: all)")
    print("| study | training | takes, MB | asks, MB | times |\n|---|---|---|---|---|")
    for name in arguments.parse_args().names or STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), name)


def measure(folder: Path, name: str) -> None:
    """Print the largest of a study's base models, and of its fine-tunes per mode."""
    for link in LINKS:
        (folder / link).symlink_to(ROOT / link)
    (folder / "told").mkdir()
    (folder / "told/sitecustomize.py").write_text(TOLD)
    content = study_of(name)
    if "data" in content and "path" in content["data"]:
        write_people(folder / "data", PEOPLE, times=6 if "GB" in name else 1)
    (folder / "study.json").write_text(json.dumps(content))
    taken = run(folder, content["run"].get("threads", 1))
    from rootstock.controller.planning import plan_content

    with contextlib.chdir(folder):
        plan = plan_content(content)
    bases = {f"base_models/{key}.pt": ("base", base) for key, base in plan.bases.items()}
    tuned = {one.path: (one.spec.mode, one) for one in plan.experiments.values()}
    most: dict[str, tuple[int, int]] = {}
    for path, (kind, training) in (bases | tuned).items():
        most[kind] = max(most.get(kind, (0, 0)), (taken[path], training.mem_mb))
    for kind, (takes, asks) in most.items():
        print(f"| {name} | {kind} | {takes} | {asks} | {asks / takes:.1f} |", flush=True)


def study_of(name: str) -> dict:
    """A study as a mapping, with its changes; jobs are not forked and see no GPU."""
    from rootstock.controller.planning import DEFAULT_STUDY, TASKS, load_content, merge

    file, changes = STUDIES[name]
    content = load_content(str(ROOT / (file or DEFAULT_STUDY)), TASKS) if file else {}
    content = merge(content, changes) | {"study": "memory"}
    content |= {"baselines": []} if content.get("task", "activity") == "activity" else {}
    return content | {"run": content.get("run", {}) | {"warm": False, "gpus": 0}}


def run(folder: Path, threads: int) -> dict[str, int]:
    """The peak memory of each training in MB, by the path that it published."""
    flags = ["--profile", "local", "--cores", str(threads), "--configfile", "study.json", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(folder / "told"), "PEAKS": str(folder / "peaks")}
    command = [sys.executable, "-m", "snakemake", *flags]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    lines = (line.split(" ", 1) for line in (folder / "peaks").read_text().splitlines())
    return {path: int(peak) for peak, path in lines}


if __name__ == "__main__":
    main()
