#!/usr/bin/env python
"""Choose settings for each person without looking at that person.

The ten people are five pairs. For every two pairs a base model is trained on the other six people. For a target in pair P
a candidate counts by its mean accuracy on the eight people of the other pairs, by models that saw neither them nor anybody
of P: base settings on all windows of these people, fine-tune settings on their test sets, after fine-tuning on the person
measured, on base models of the settings that P chose. So both of a pair choose alike, and nothing of theirs is looked at.

    python benchmarks/select_settings.py time base > selection_base.json
    make run STUDY=selection_base.json
    python benchmarks/select_settings.py time table results/selection_base/summary.csv
    python benchmarks/select_settings.py time finetune results/selection_base/summary.csv > selection_finetune.json
    make run STUDY=selection_finetune.json
    python benchmarks/select_settings.py time table results/selection_finetune/summary.csv

What the chosen settings reach on the targets themselves, with base models of all nine others, over three seeds:

    python benchmarks/select_settings.py time judge results/selection_{base,finetune}/summary.csv > judged.json
    make run STUDY=judged.json
    python benchmarks/select_settings.py time judgement results/judged/summary.csv

With `recording` in place of `time` by the protocol of config/studies/smartwatch_recordings.yaml: fine-tuned on one arm's
recordings, measured on the other's, both ways.
"""

import json
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow/scripts"))

from rootstock.results.statistics import TIE

PEOPLE = [f"s{n:02d}" for n in range(1, 11)]
PAIRS = [PEOPLE[i : i + 2] for i in range(0, len(PEOPLE), 2)]
SEEDS = (0, 1, 2)
LEFT_OUT = "left out, all windows"

Settings = dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """Candidates for a fine-tune: on which amount of a person's windows they are measured, and for which amounts one is chosen."""

    measured_with: Settings
    candidates: dict[str, Settings]
    chosen_for: tuple[Settings, ...]


@dataclass(frozen=True)
class Protocol:
    """What all trainings have in common, the ways in which a person's windows are split, the seeds of fine-tunes that choose, and the
    candidates."""

    shipped: Settings
    ways: tuple[Settings, ...]
    seeds: tuple[int, ...]
    bases: dict[str, Settings]
    tunings: tuple[Tuning, ...]


POOLED = {
    "data_mirror": True, "model": "pooled", "lr": 0.003, "schedule": "one_cycle", "max_epochs": 30,
    "label_smoothing": 0.1, "use_augmentation": True, "aug_prob": 0.8, "jitter_std": 0, "time_warp": 0,
    "rotation_std": 0.2, "mixup_alpha": 0.3,
}  # fmt: skip
MIXED_BATCHES = {
    "target_batch_pct": 0.5, "finetune_lr": 0.002, "finetune_schedule": "cosine",
    "finetune_max_epochs": 4, "finetune_label_smoothing": 0.05, "finetune_mixup_alpha": 0,
}  # fmt: skip
FULL, ADAPTERS = ({"mode": mode} | MIXED_BATCHES for mode in ("full_fine_tuning", "adapters"))
FULL_HALF, ADAPTERS_HALF = (one | {"base_share": 0.5} for one in (FULL, ADAPTERS))
PROTOTYPES = {"mode": "prototypes"}
TENTH, ALL = {"target_data_pct": 0.1}, {"target_data_pct": 1.0}
FIVE, ONE = {"target_shots": 5}, {"target_shots": 1}

TIME = Protocol(
    shipped=POOLED | {"data_pad": True},
    ways=({},),
    seeds=SEEDS,  # one would be noise
    bases={
        "shipped": {},
        "20 epochs": {"max_epochs": 20},
        "no mixup": {"mixup_alpha": 0},
        "arms as recorded": {"data_mirror": False},
        "preset test, 64 channels": {"model": "test", "base_channels": 64, "use_residual": True},
    },
    tunings=(
        Tuning(  # chosen on few windows, where settings matter
            TENTH,
            {
                "shipped": FULL,
                "lr 0.001": FULL | {"finetune_lr": 0.001},
                "8 epochs": FULL | {"finetune_max_epochs": 8},
                "a quarter of target windows": FULL | {"target_batch_pct": 0.25},
            },
            (TENTH, ALL),
        ),
    ),
)
RECORDING = Protocol(
    shipped=POOLED | {"data_split_by": "recording", "early_stopping_metric": "last"},
    ways=tuple({"adapt_on": arm} for arm in ("left", "right")),
    seeds=(0,),  # a person has seven times as many test windows, both ways together
    bases={
        "shipped": {},
        "no mixup": {"mixup_alpha": 0},
        "no mixup, 60 epochs": {"mixup_alpha": 0, "max_epochs": 60},
        "no mixup, rotation 0.4": {"mixup_alpha": 0, "rotation_std": 0.4},
        "no mixup, time warp 0.2": {"mixup_alpha": 0, "time_warp": 0.2},
        "no mixup, 60 epochs, time warp 0.2": {"mixup_alpha": 0, "max_epochs": 60, "time_warp": 0.2},
        "no mixup, 20 epochs, preset test, 64 channels": {
            "mixup_alpha": 0, "max_epochs": 20, "model": "test", "base_channels": 64, "use_residual": True,
        },
    },
    tunings=(
        Tuning(ALL, {"full": FULL, "full, half base": FULL_HALF, "adapters": ADAPTERS, "adapters, half base": ADAPTERS_HALF}, (ALL,)),
        Tuning(FIVE, {"full": FULL, "full, half base": FULL_HALF, "prototypes": PROTOTYPES}, (FIVE,)),
        Tuning(ONE, {"full, half base": FULL_HALF, "prototypes": PROTOTYPES}, (ONE,)),
    ),
)  # fmt: skip
PROTOCOLS = {"time": TIME, "recording": RECORDING}


def base_jobs(protocol: Protocol) -> list[Settings]:
    """For each candidate and two pairs: one base without these four people, measured on all windows of each of them."""
    found = []
    for number, settings in enumerate(protocol.bases.values()):
        for one, other in combinations(PAIRS, 2):
            rest = [person for person in PEOPLE if person not in one + other]
            for person in one + other:
                job = {"mode": "base_only", "fold": PEOPLE.index(person), "base_participants": rest}
                found.append(protocol.shipped | settings | job | protocol.ways[0] | {"prefix": f"candidate{number}"})
    return found


def finetune_jobs(protocol: Protocol, base_summary: str) -> list[Settings]:
    """For each pair and candidate: fine-tunes on each person of the other pairs, of bases without both pairs."""
    rows, found = read(base_summary), []
    for pair in PAIRS:
        base = protocol.shipped | chosen_by(pair, rows, protocol.bases)
        for other in PAIRS:
            rest = [person for person in PEOPLE if person not in pair + other]
            for person in other if other != pair else []:
                of_person = base | {"fold": PEOPLE.index(person), "base_participants": rest}
                found += [
                    of_person | settings | tuning.measured_with | way | {"seed": seed, "prefix": f"candidate{number}"}
                    for tuning in protocol.tunings
                    for number, settings in enumerate(tuning.candidates.values())
                    for way in protocol.ways
                    for seed in protocol.seeds
                ]
    return found


def judge(protocol: Protocol, base_summary: str, finetune_summary: str) -> list[Settings]:
    """Each person, for each seed, with the settings chosen for that person: the base, and a fine-tune of each amount."""
    bases, tuned, found = read(base_summary), parts(read(finetune_summary)), []
    for pair in PAIRS:
        base = protocol.shipped | chosen_by(pair, bases, protocol.bases)
        jobs = [base | {"mode": "base_only"}]
        for tuning in protocol.tunings:
            chosen = chosen_by(pair, tuned[name_of(tuning.measured_with)], tuning.candidates)
            jobs += [base | chosen | amount for amount in tuning.chosen_for]
        found += [
            job | way | {"fold": PEOPLE.index(person), "seed": seed}
            for job in jobs for way in protocol.ways for person in pair for seed in SEEDS
        ]  # fmt: skip
    return found


def table(protocol: Protocol, path: str) -> None:
    """Each pair's candidates by what they reach on other people, and the one it chooses."""
    candidates = {name_of(tuning.measured_with): tuning.candidates for tuning in protocol.tunings}
    for what, part in parts(read(path)).items():
        names = list((candidates | {LEFT_OUT: protocol.bases})[what])
        print(f"\n{what}: mean accuracy on other people, %")
        for pair in PAIRS:
            score = scores(pair, part)
            listed = "  ".join(f"{names[number]} {value:.2f}" for number, value in score.items())
            print(f"{' '.join(pair)}: {listed}; chosen: {names[score.idxmax()]}")


def judgement(path: str) -> None:
    """What the chosen settings reach, over people and over seeds."""
    for what, part in parts(pd.read_csv(path)).items():
        of = part.groupby("target")
        people, seeds = 100 * of[value_of(part)].mean(), 100 * part.groupby("base_seed")[value_of(part)].mean()
        print(
            f"{what}: mean {people.mean():.2f}, sd of people {people.std():.2f}, worst {people.min():.2f} ({people.idxmin()}); "
            f"seeds {', '.join(f'{v:.2f}' for v in seeds)}, sd {seeds.std():.2f}"
        )
        if what != LEFT_OUT:
            base = 100 * of["base_test_accuracy"].mean()
            worse = list(people.index[people - base < -TIE])
            print(f"  base on the same windows: mean {base.mean():.2f}, worst {base.min():.2f}; worse than it: {worse}")


def parts(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of bases on the person left out, and of fine-tunes with each amount of a person's windows."""
    kind = rows.apply(lambda row: LEFT_OUT if row["mode"] == "base_only" else name_of(row.dropna()), axis=1)
    return dict(iter(rows.groupby(kind)))


def name_of(amount: Any) -> str:
    if "target_shots" in amount:
        return f"{amount['target_shots']:g} a class"
    return f"{100 * amount['target_data_pct']:g} %"


def chosen_by(pair: list[str], rows: pd.DataFrame, candidates: dict[str, Settings]) -> Settings:
    """The candidate that is best for a pair."""
    return list(candidates.values())[scores(pair, rows).idxmax()]


def scores(pair: list[str], rows: pd.DataFrame) -> pd.Series:
    """Accuracy of each candidate by number, %, on people outside the pair, by models that saw nobody of it."""
    others = rows[~rows["target"].isin(pair)]
    others = others[~others["base_participants"].str.split().map(set(pair).intersection).astype(bool)]
    return 100 * others.groupby("candidate")[value_of(rows)].mean()


def value_of(rows: pd.DataFrame) -> str:
    return "base_all_accuracy" if (rows["mode"] == "base_only").all() else "test_accuracy"


def read(path: str) -> pd.DataFrame:
    """A summary with the number of each experiment's candidate."""
    rows = pd.read_csv(path)
    rows["candidate"] = rows["path"].str.extract(r"candidate(\d)_").astype(int)
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case [("time" | "recording") as name, "base"]:
            print(json.dumps(base_jobs(PROTOCOLS[name])))
        case [("time" | "recording") as name, "finetune", path]:
            print(json.dumps(finetune_jobs(PROTOCOLS[name], path)))
        case [("time" | "recording") as name, "judge", base_path, finetune_path]:
            print(json.dumps(judge(PROTOCOLS[name], base_path, finetune_path)))
        case [("time" | "recording") as name, "table", path]:
            table(PROTOCOLS[name], path)
        case ["time" | "recording", "judgement", path]:
            judgement(path)
        case _:
            sys.exit(__doc__)
