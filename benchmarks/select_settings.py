#!/usr/bin/env python
"""Choose settings for each person without looking at that person.

The ten people are five pairs. For every two pairs a base model is trained on the other six people. For a target in pair P
a candidate counts by its mean accuracy on the eight people of the other pairs, by models that saw neither them nor anybody
of P: base settings on all windows of these people, fine-tune settings over three seeds on their test parts, after fine-tuning on the person
measured, on base models of the settings that P chose. So both of a pair choose alike, and nothing of theirs is looked at.

    python benchmarks/select_settings.py base > selection_base.json
    make run STUDY=selection_base.json
    python benchmarks/select_settings.py table results/selection_base/summary.csv
    python benchmarks/select_settings.py finetune results/selection_base/summary.csv > selection_finetune.json
    make run STUDY=selection_finetune.json
    python benchmarks/select_settings.py table results/selection_finetune/summary.csv

What the chosen settings reach on the targets themselves, with base models of all nine others, over three seeds:

    python benchmarks/select_settings.py judge results/selection_{base,finetune}/summary.csv > judged.json
    make run STUDY=judged.json
    python benchmarks/select_settings.py judgement results/judged/summary.csv

`base`, `finetune` and `judge` end with `recording` for the protocol of config/studies/smartwatch_recordings.yaml: fine-tuned on one arm's
recordings, measured on the other's, both ways.
"""

import json
import sys
from itertools import combinations

PEOPLE = [f"s{n:02d}" for n in range(1, 11)]
PAIRS = [PEOPLE[i : i + 2] for i in range(0, len(PEOPLE), 2)]
SHIPPED = {
    "data_pad": True, "data_mirror": True, "model": "pooled", "lr": 0.003, "schedule": "one_cycle", "max_epochs": 30,
    "label_smoothing": 0.1, "use_augmentation": True, "aug_prob": 0.8, "jitter_std": 0, "time_warp": 0,
    "rotation_std": 0.2, "mixup_alpha": 0.3,
}  # fmt: skip
BASE = {
    "shipped": {},
    "20 epochs": {"max_epochs": 20},
    "no mixup": {"mixup_alpha": 0},
    "arms as recorded": {"data_mirror": False},
    "preset test, 64 channels": {"model": "test", "base_channels": 64, "use_residual": True},
}
FULL = {
    "mode": "full_fine_tuning", "target_batch_pct": 0.5, "finetune_lr": 0.002, "finetune_schedule": "cosine",
    "finetune_max_epochs": 4, "finetune_label_smoothing": 0.05, "finetune_mixup_alpha": 0,
}  # fmt: skip
FINETUNE = {
    "shipped": {},
    "lr 0.001": {"finetune_lr": 0.001},
    "8 epochs": {"finetune_max_epochs": 8},
    "a quarter of target windows": {"target_batch_pct": 0.25},
}
FRACTIONS = (0.1, 1.0)
CHOOSING_SHARE = 0.1  # fine-tune settings are chosen on few windows, where they matter
SEEDS = (0, 1, 2)
PROTOCOLS = {
    "time": ({},),
    "recording": tuple({"data_split_by": "recording", "adapt_on": arm} for arm in ("left", "right")),
}
LEFT_OUT = "left out, all windows"


def base_jobs(protocol: str = "time") -> list[dict]:
    """For each candidate and two pairs: one base without these four people, measured on all windows of each of them."""
    found = []
    for number, settings in enumerate(BASE.values()):
        for one, other in combinations(PAIRS, 2):
            rest = [person for person in PEOPLE if person not in one + other]
            for person in one + other:
                job = {"mode": "base_only", "fold": PEOPLE.index(person), "base_participants": rest}
                found.append(SHIPPED | settings | job | PROTOCOLS[protocol][0] | {"prefix": f"candidate{number}"})
    return found


def finetune_jobs(base_summary: str, protocol: str = "time") -> list[dict]:
    """For each pair and candidate: fine-tunes on each person of the other pairs, of bases without both pairs."""
    rows, found = read(base_summary), []
    for pair in PAIRS:
        base = list(BASE.values())[chosen_by(pair, rows)]
        for other in PAIRS:
            rest = [person for person in PEOPLE if person not in pair + other]
            for person in other if other != pair else []:
                for number, settings in enumerate(FINETUNE.values()):
                    job = {"fold": PEOPLE.index(person), "base_participants": rest, "prefix": f"candidate{number}"}
                    job = SHIPPED | base | FULL | settings | job | {"target_data_pct": CHOOSING_SHARE}
                    found += [
                        job | way | {"seed": seed} for way in PROTOCOLS[protocol] for seed in SEEDS
                    ]  # one seed would be noise
    return found


def table(path: str) -> None:
    """Each pair's candidates by what they reach on other people, and the one it chooses."""
    rows = read(path)
    for what, part in parts(rows):
        names = list(BASE if what == LEFT_OUT else FINETUNE)
        print(f"\n{what}: mean accuracy on other people, %")
        for pair in PAIRS:
            score = scores(pair, part)
            listed = "  ".join(f"{names[number]} {value:.2f}" for number, value in score.items())
            print(f"{' '.join(pair)}: {listed}; chosen: {names[score.idxmax()]}")


def parts(rows):
    """What was measured, and its rows: bases on the person left out, fine-tunes at each fraction."""
    bases, tuned = rows[rows["mode"] == "base_only"], rows[rows["mode"] != "base_only"]
    found = [(LEFT_OUT, bases)] if len(bases) else []
    shares = tuned.groupby("target_data_pct") if len(tuned) else []
    return found + [(f"fine-tuned on {100 * share:g} %", part) for share, part in shares]


def scores(pair: list[str], rows):
    """Accuracy of each candidate, %, on people outside the pair, by models that saw nobody of it."""
    others = rows[~rows["target"].isin(pair)]
    others = others[~others["base_participants"].str.split().map(set(pair).intersection).astype(bool)]
    return 100 * others.groupby("candidate")[value_of(rows)].mean()


def chosen_by(pair: list[str], rows) -> int:
    """The number of the candidate that is best for a pair."""
    return scores(pair, rows).idxmax()


def value_of(rows) -> str:
    return "base_all_accuracy" if (rows["mode"] == "base_only").all() else "test_accuracy"


def judge(base_summary: str, finetune_summary: str, protocol: str = "time") -> list[dict]:
    """Each person, for each seed, with the settings chosen for that person: the base, and a fine-tune at each fraction."""
    bases, tuned, found = read(base_summary), read(finetune_summary), []
    for pair in PAIRS:
        base = SHIPPED | list(BASE.values())[chosen_by(pair, bases)]
        jobs = [base | {"mode": "base_only"}]
        chosen = list(FINETUNE.values())[chosen_by(pair, tuned)]
        jobs += [base | FULL | chosen | {"target_data_pct": share} for share in FRACTIONS]
        jobs = [job | way for job in jobs for way in PROTOCOLS[protocol]]
        found += [
            job | {"fold": PEOPLE.index(person), "seed": seed} for job in jobs for person in pair for seed in SEEDS
        ]
    return found


def judgement(path: str) -> None:
    """What the chosen settings reach, over people and over seeds."""
    import pandas as pd

    for what, part in parts(pd.read_csv(path)):
        value = value_of(part)
        people, seeds = 100 * part.groupby("target")[value].mean(), 100 * part.groupby("base_seed")[value].mean()
        print(
            f"{what}: mean {people.mean():.2f}, sd of people {people.std():.2f}, worst {people.min():.2f} ({people.idxmin()}); "
            f"seeds {', '.join(f'{v:.2f}' for v in seeds)}, sd {seeds.std():.2f}"
        )


def read(path: str):
    """A summary with the number of each experiment's candidate."""
    import pandas as pd

    rows = pd.read_csv(path)
    rows["candidate"] = rows["path"].str.extract(r"candidate(\d)_").astype(int)
    return rows


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["base", *by] if len(by) < 2:
            print(json.dumps(base_jobs(*by)))
        case ["finetune", path, *by] if len(by) < 2:
            print(json.dumps(finetune_jobs(path, *by)))
        case ["judge", base_path, finetune_path, *by] if len(by) < 2:
            print(json.dumps(judge(base_path, finetune_path, *by)))
        case ["table", path]:
            table(path)
        case ["judgement", path]:
            judgement(path)
        case _:
            sys.exit(__doc__)
