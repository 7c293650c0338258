"""What `bench.py` measures: each case is a table of pairs, ours first, made in a folder."""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measuring import Cost, cost_of

ROOT = Path(__file__).parent.parent
SCRIPTS, PLAIN = ROOT / "workflow/scripts", Path(__file__).parent / "plain.py"
PEOPLE = tuple("abcdefg")
CHANNELS, SAMPLES, WINDOWS = 6, 3000, {"train": 240, "val": 80, "test": 80}  # per person
TRAINING = {"lr": 0.001, "batch_size": 64, "max_epochs": 10}
AUGMENTED = {
    "use_augmentation": True,
    "jitter_std": 0.05,
    "magnitude_range": [[0.8, 1.2]],
    "time_warp": 0.2,
    "aug_prob": 0.5,
}
MODES = ("target_only_fine_tuning", "last_layer_only")
SHARES = (0.5, 1.0)
GRID_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)

Pair = dict[str, Callable[[], Cost]]


def write_people(folder: Path, people: tuple[str, ...] = PEOPLE, times: float = 1, samples: int = SAMPLES) -> None:
    """Windows of two kinds of movement that differ in frequency."""
    import torch

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for person in people:
        for split, count in WINDOWS.items():
            y = torch.arange(round(count * times)) % 2
            wave = torch.sin(torch.arange(samples) * 0.01 * (1 + y[:, None]))[:, None]
            x = wave + torch.randn(len(y), CHANNELS, samples, generator=generator)
            torch.save((x, y.float()), folder / f"{person}_{split}.pt")


def steps(folder: Path, full: bool) -> dict[str, Pair]:
    """Measured in this process, because milliseconds are too short for separate ones."""
    sys.path.insert(0, str(SCRIPTS))
    import plain
    import torch

    from rootstock.machine.memory import keep_freed_memory
    from rootstock.tasks.activity.augment import Augmentation
    from rootstock.tasks.activity.models import build_model
    from rootstock.tasks.activity.presets import PRESETS
    from rootstock.tasks.activity.specs import Model

    keep_freed_memory()
    torch.set_num_threads(1)
    architecture, settings = PRESETS["test"]
    ours, theirs = build_model(Model(architecture=architecture, settings=settings), CHANNELS, 1), plain.Net(CHANNELS)
    windows, samples, scale = torch.randn(64, CHANNELS, SAMPLES), torch.arange(64), torch.ones(CHANNELS, 1)
    augment = Augmentation(0.5, 0.05, (0.8, 1.2), 0.2, 0.0)

    def step(model: torch.nn.Module) -> None:
        model(windows).sum().backward()

    def evaluate(model: torch.nn.Module) -> None:
        with torch.inference_mode():
            model(windows)

    return {
        "a step of 64 × 6 × 3000": {
            "ours": lambda: _least(lambda: step(ours)),
            "plain": lambda: _least(lambda: step(theirs)),
        },
        "an evaluation of 64 × 6 × 3000": {
            "ours": lambda: _least(lambda: evaluate(ours)),
            "plain": lambda: _least(lambda: evaluate(theirs)),
        },
        "augmentation of 64 × 6 × 3000": {
            "ours": lambda: _least(lambda: augment(windows.clone(), scale, samples, 1)),
            "plain": lambda: _least(lambda: plain.augment(windows)),
        },
    }


def trainings(folder: Path, full: bool) -> dict[str, Pair]:
    """The same base models and fine-tunes as a study and as one script each, then both in a process with all loaded."""
    write_people(folder / "data")
    targets, seeds = (PEOPLE[:4], (0, 1)) if full else (PEOPLE[:2], (0,))
    jobs = list(_plain_jobs(targets, seeds))
    (folder / "trainings.json").write_text(json.dumps(jobs))
    (folder / "study.yaml").write_text(json.dumps(_study(targets, seeds)))
    title = f"{len(targets) * len(seeds)} base models and {len(jobs) - len(targets) * len(seeds)} fine-tunes, 10 epochs"
    return {
        f"{title}, with all starts": {
            "ours": lambda: _by_snakemake(folder),
            "plain": lambda: _by_scripts(folder, jobs),
        },
        f"{title}, without starts": {
            "ours": lambda: _in_one(folder, [str(Path(__file__).parent / "warm.py"), "study.yaml"]),
            "plain": lambda: _in_one(folder, [str(PLAIN), "--several", "trainings.json"]),
        },
    }


def long(folder: Path, full: bool) -> dict[str, Pair]:
    """As `trainings`, with 50 epochs and `compile: auto`: the cost of the steps when starts hardly count."""
    write_people(folder / "data")
    targets, seeds = (PEOPLE[:4], (0, 1)) if full else (PEOPLE[:2], (0,))
    jobs = [job | {"epochs": 50} for job in _plain_jobs(targets, seeds)]
    study = _study(targets, seeds)
    study |= {"base": study["base"] | {"max_epochs": 50}, "run": {"compile": "auto"}}
    (folder / "study.yaml").write_text(json.dumps(study))
    bases = len(targets) * len(seeds)
    return {
        f"{bases} base models and {len(jobs) - bases} fine-tunes, 50 epochs, with all starts, `compile: auto`": {
            "ours": lambda: _by_snakemake(folder),
            "plain": lambda: _by_scripts(folder, jobs),
        }
    }


def grid(folder: Path, full: bool) -> dict[str, Pair]:
    """The grid of 1,008 fine-tunes on seven people (as `config/studies/shared_base_grid.yaml`), three epochs each.

    Scripts that train each base once per fold start 84 + 1,008 processes, scripts that share nothing 1,008 + 1,008. All
    84 bases are measured. Of the fine-tunes, unless `full`, every eighth is measured and counted eight times.
    """
    write_people(folder / "data", times=0.35, samples=200)
    (folder / "study.yaml").write_text(json.dumps(_grid_study()))
    bases, tuned = _grid_jobs()
    every = 1 if full else 8
    measured: dict[str, Cost] = {}

    def two_phases() -> Cost:
        measured["bases"] = _by_scripts(folder, bases)
        measured["tuned"] = _by_scripts(folder, tuned[::every]).times(every)
        return measured["bases"] + measured["tuned"]

    def a_base_each() -> Cost:
        if not measured:
            two_phases()
        return measured["bases"].times(len(tuned) / len(bases)) + measured["tuned"]

    return {
        "the grid of 1,008 fine-tunes, 3 epochs": {
            "ours": lambda: _by_snakemake(folder),
            "plain, 84 bases": two_phases,
            "plain, a base each": a_base_each,
        }
    }


def memory(folder: Path, full: bool) -> dict[str, Pair]:
    """One base model for one epoch over 1 GB; then five at once, with other seeds, over the same files."""
    write_people(folder / "data", times=6)
    study = _study(PEOPLE[:1], range(5)) | {"finetune": {"mode": "base_only"}}
    (folder / "study.yaml").write_text(json.dumps(study | {"base": study["base"] | {"max_epochs": 1}}))
    warm = [sys.executable, str(Path(__file__).parent / "warm.py"), "study.yaml"]
    ours = [[*warm, "--base", str(number)] for number in range(5)]
    others = [word for person in PEOPLE[1:] for word in (person,)]
    plain = [sys.executable, str(PLAIN), "--data", "data", "--epochs", "1", "--out", "base.pt", "--people", *others]
    return {
        "a base model on 1 GB of windows, 1 epoch": {
            "ours": lambda: cost_of(ours[:1], _emptied(folder), memory=True),
            "plain": lambda: cost_of([plain], folder, memory=True),
        },
        "five base models side by side on it": {
            "ours": lambda: cost_of(ours, _emptied(folder), memory=True),
            "one plain": lambda: cost_of([plain], folder, memory=True),
        },
    }


CASES: dict[str, Callable[[Path, bool], dict[str, Pair]]] = {
    "steps": steps,
    "trainings": trainings,
    "long": long,
    "memory": memory,
    "grid": grid,
}


def _least(function: Callable[[], None], times: int = 25) -> Cost:
    """The least CPU seconds of several calls, after a few for warm-up."""
    found = []
    for _ in range(times):
        begun = time.process_time()
        function()
        found.append(time.process_time() - begun)
    return Cost(min(found[3:]), 0.0)


def _study(targets, seeds) -> dict:
    finetune = {"mode": list(MODES), "target_data_pct": list(SHARES)}
    base = {"model": "test", "seed": list(seeds), **TRAINING, **AUGMENTED}
    folds = [PEOPLE.index(target) for target in targets]
    return {"study": "bench", "data": {"path": "data"}, "participants": list(PEOPLE), "folds": folds, "baselines": [],
            "base": base, "finetune": finetune}  # fmt: skip


def _plain_jobs(targets, seeds):
    common = {"data": "data", "lr": TRAINING["lr"], "epochs": TRAINING["max_epochs"]}
    for seed in seeds:
        for target in targets:
            base = f"base_{target}_{seed}.pt"
            yield common | {"people": [p for p in PEOPLE if p != target], "seed": seed, "out": base}
            for mode in MODES:
                for share in SHARES:
                    own = {"people": [target], "seed": seed, "start": base, "mode": mode, "share": share}
                    yield common | own | {"out": f"tuned_{target}_{seed}_{mode}_{share}.pt"}


def _grid_study() -> dict:
    base = {
        "model": "test",
        "batch_size": [32, 64],
        "n_base_participants": list(range(1, len(PEOPLE))),
        "max_epochs": 3,
    }
    finetune = {"mode": list(MODES), "target_data_pct": list(GRID_SHARES)}
    return {"study": "bench", "data": {"path": "data"}, "participants": list(PEOPLE), "baselines": [],
            "base": base | AUGMENTED, "finetune": finetune}  # fmt: skip


def _grid_jobs() -> tuple[list[dict], list[dict]]:
    """One base per target, batch size and number of other people; twelve fine-tunes per base."""
    bases, tuned = [], []
    for number, (target, size, count) in enumerate(itertools.product(PEOPLE, (32, 64), range(1, len(PEOPLE)))):
        common = {"data": "data", "lr": 0.001, "epochs": 3, "batch_size": size, "seed": 0}
        others = [person for person in PEOPLE if person != target][:count]
        bases.append(common | {"people": others, "out": f"base_{number}.pt"})
        for mode, share in itertools.product(MODES, GRID_SHARES):
            own = {"people": [target], "start": f"base_{number}.pt", "mode": mode, "share": share}
            tuned.append(common | own | {"out": f"tuned_{number}_{mode}_{share}.pt"})
    return bases, tuned


def _by_snakemake(folder: Path) -> Cost:
    project = _emptied(folder)
    command = [sys.executable, "-m", "snakemake", "--profile", "local", "--cores", "1", "--configfile", "study.yaml"]
    return cost_of([command], project)


def _by_scripts(folder: Path, jobs: list[dict]) -> Cost:
    """One process per training, one after the other."""
    costs = [cost_of([[sys.executable, str(PLAIN), *_flags(job)]], folder) for job in jobs]
    return Cost(sum(cost.cpu for cost in costs), sum(cost.wall for cost in costs))


def _flags(job: dict) -> list[str]:
    words = ((f"--{name}", *(value if isinstance(value, list) else [value])) for name, value in job.items())
    return [str(word) for flag in words for word in flag]


def _in_one(folder: Path, script: list[str]) -> Cost:
    """The CPU seconds of trainings in one process, loading excluded: the last line of its output."""
    started = time.monotonic()
    cost_of([[sys.executable, *script]], _emptied(folder))
    cpu = float((folder / "bench.log").read_text().splitlines()[-1])
    return Cost(cpu, time.monotonic() - started)


def _emptied(folder: Path) -> Path:
    """The folder as a project in which nothing was trained."""
    import shutil

    for name in (".rootstock", ".snakemake", "base_models", "experiments", "results", "logs", "store"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("Snakefile", "workflow", "profiles", "local", "slurm", "config"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder
