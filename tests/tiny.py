"""A tiny study for each task: what the engine's own tests train, kill, resume and split over processes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tiny_text import write_text

PEOPLE = ("ann", "bob", "cleo")
OWN = Path(__file__).parent / "own"


@dataclass(frozen=True)
class Tiny:
    """A study of one base and one fine-tune with all that is random switched on; `write` makes its data in `data/tiny`."""

    study: dict
    write: Callable[[Path], object]
    steady: dict  # settings of `base` without what draws differently on other numbers of processes
    long: dict  # sections merged into the study where it must last long enough to be killed

    def content(self, *more: dict) -> dict:
        """The study with sections of `more` on top."""
        merged = dict(self.study)
        for sections in more:
            for key, value in sections.items():
                both = isinstance(value, dict) and isinstance(merged.get(key), dict)
                merged[key] = merged[key] | value if both else value
        return merged


def write_people(folder: Path, people=PEOPLE, channels=3, samples=32, binary=False, n=24, seed=0) -> Path:
    """Windows whose class is their frequency, so that a small model can learn them in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    classes = 2 if binary else 3
    for person in people:
        for split in ("train", "val", "test"):
            count = n if split == "train" else n // 2
            y = torch.arange(count) % classes
            time = torch.arange(samples) / samples
            wave = torch.sin(2 * torch.pi * (y[:, None] + 1) * 2 * time)[:, None, :].expand(-1, channels, -1)
            x = (wave + 0.3 * torch.randn(count, channels, samples, generator=generator)).float()
            torch.save((x, y.float() if binary else y), folder / f"{person}_{split}.pt")
    return folder


def write_texts(folder: Path, n=60) -> Path:
    """Two domains of short sentences, so regular that a small model learns them in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"animals": ("cat", "dog", "cow", "hen"), "plants": ("oak", "elm", "rose", "moss", "fern")}
    for domain, names in words.items():
        lines = (
            f"{names[i % len(names)]} number {i} is a thing of the {domain}, like {names[i % 3]}." for i in range(n)
        )
        (folder / f"{domain}.txt").write_text("\n\n".join(lines))
    return folder


def write_curves(folder: Path) -> Path:
    """The user's own task beside the Snakefile; its data is made when it is prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(OWN / "curves", folder.parent.parent / "curves", dirs_exist_ok=True)
    return folder


TINY = {
    "activity": Tiny(
        study={
            "task": "activity",
            "data": {"path": "data/tiny"},
            "participants": list(PEOPLE),
            "folds": [0],
            "base": {
                "max_epochs": 6, "lr": 0.01, "batch_size": 16, "dropout": 0.3, "use_augmentation": True,
                "mixup_alpha": 0.3, "schedule": "one_cycle", "gradient_clip": 1.0,
            },
            "finetune": {"mode": "full_fine_tuning", "target_batch_pct": 0.5, "max_epochs": 4},
        },
        write=write_people,
        steady={"base": {"dropout": 0.0, "batch_size": 18, "early_stopping_patience": 5, "max_epochs": 30}},
        long={
            "base": {"max_epochs": 60, "batch_size": 8},
            "finetune": {"mode": ["full_fine_tuning", "target_only_fine_tuning"], "target_batch_pct": None, "max_epochs": 40},
        },
    ),
    "distillation": Tiny(
        study={
            "task": "distillation",
            "data": {
                "path": "data/tiny/pairs.jsonl", "teacher": "data/tiny/teacher", "teacher_max_length": 16,
                "split": [0.6, 0.2, 0.2],
            },
            "base": {
                "student": "data/tiny/teacher", "layers": [0, 2], "dropout": 0.1, "projection_hidden_dim": 32,
                "max_length": 16, "max_epochs": 4, "batch_size": 8, "lr": 0.001, "warmup_steps": 2,
                "max_samples_per_dataset": 30,
            },
            "finetune": {"num_negatives": 2, "mse_weight": 0.5, "max_epochs": 3},
        },
        write=write_text,
        steady={"base": {"dropout": 0.0, "max_epochs": 30}},
        long={
            "base": {"max_epochs": 60},
            "finetune": {"max_epochs": 40, "temperature": [0.05, 0.1]},
        },
    ),
    "language_model": Tiny(
        study={
            "task": "language_model",
            "data": {"path": "data/tiny", "vocab_size": 300, "split": [0.8, 0.1, 0.1]},
            "domains": ["animals"],
            "base": {
                "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "context_length": 16, "batch_size": 4,
                "max_steps": 22, "eval_every": 6, "eval_tokens": 128, "warmup_steps": 3, "schedule": "cosine", "lr": 0.01,
            },
            "finetune": {"mode": "full_fine_tuning", "target_data_pct": 0.5, "max_steps": 20, "optimizer": "muon"},
        },
        write=write_texts,
        steady={"base": {"max_steps": 60, "early_stopping_patience": 4, "batch_size": 6, "mask_documents": True}},
        long={
            "domains": ["animals", "plants"],
            "base": {"max_steps": 500, "eval_every": 50, "batch_size": 8, "schedule": "wsd"},
            "finetune": {"mode": ["full_fine_tuning", "last_layers_only"], "max_steps": 200},
        },
    ),
    "own": Tiny(
        study={
            "task": "curves.task:Curves",
            "targets": ["north"],
            "base": {"max_epochs": 5, "lr": 0.01, "batch_size": 8, "gradient_clip": 1.0},
            "finetune": {"share": 0.75, "max_epochs": 4},
        },
        write=write_curves,
        steady={"base": {"max_epochs": 30, "batch_size": 6}},
        long={"base": {"max_epochs": 150}, "finetune": {"share": [0.5, 1.0], "max_epochs": 60}},
    ),
}  # fmt: skip
