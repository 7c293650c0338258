#!/usr/bin/env python
"""Choose settings for each person without looking at that person.

Base settings. The ten people are five pairs. For every two pairs a base model is trained on the other six people and
measured on those four. For a target in pair P a candidate counts by its mean accuracy on the eight people of the other
pairs, by models that saw neither them nor anybody of P. Each of the ten base models serves both its pairs.

Fine-tune settings. Each person is left out, as in the study. For a target a candidate counts by its mean accuracy on the
test parts of the nine others.

    python benchmarks/select_settings.py base > selection_base.json
    make run STUDY=selection_base.json
    python benchmarks/select_settings.py table results/selection_base/summary.csv

and the same with `finetune`. The table also says what the chosen candidates reach on the targets themselves. The base
models of the choice learn from six people; what the chosen settings reach with all nine others, over three seeds:

    python benchmarks/select_settings.py judge results/selection_base/summary.csv > judged.json
    make run STUDY=judged.json
    python benchmarks/select_settings.py judgement results/judged/summary.csv
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
SEEDS = (0, 1, 2)


def base_jobs() -> list[dict]:
    """For each candidate and two pairs: one base without these four people, measured on each of them."""
    found = []
    for number, settings in enumerate(BASE.values()):
        for one, other in combinations(PAIRS, 2):
            rest = [person for person in PEOPLE if person not in one + other]
            for person in one + other:
                job = {"mode": "base_only", "fold": PEOPLE.index(person), "base_participants": rest}
                found.append(SHIPPED | settings | job | {"prefix": f"candidate{number}"})
    return found


def finetune_jobs() -> list[dict]:
    """For each candidate, fraction and person: a fine-tune of the base without that person."""
    return [
        SHIPPED | FULL | settings | {"target_data_pct": share, "fold": fold, "prefix": f"candidate{number}"}
        for number, settings in enumerate(FINETUNE.values())
        for share in FRACTIONS
        for fold in range(len(PEOPLE))
    ]


def table(path: str) -> None:
    """Each target's candidates by what they reach on other people, the one it chooses, and what that one reaches."""
    rows = read(path)
    is_base = (rows["mode"] == "base_only").all()
    names = list(BASE if is_base else FINETUNE)
    value = "base_all_accuracy" if is_base else "test_accuracy"
    for share, part in [("all windows", rows)] if is_base else rows.groupby("target_data_pct"):
        print(f"\n{share}: mean accuracy on other people, %")
        reached = []
        for target in PEOPLE:
            score = scores_without(part, target, is_base, value)
            chosen = score.idxmax()
            own = 100 * part[(part["candidate"] == chosen) & (part["target"] == target)][value].mean()
            reached.append(own)
            print(f"{target}  {'  '.join(f'{v:6.2f}' for v in score)}  chooses {names[chosen]}: {own:.1f} on itself")
        every = 100 * part.groupby("candidate")[value].mean()
        print("each candidate on everybody:", ", ".join(f"{name} {every[n]:.2f}" for n, name in enumerate(names)))
        print(f"chosen for each person by the others: {sum(reached) / len(reached):.2f}")


def scores_without(rows, target: str, is_base: bool, value: str):
    """Accuracy of each candidate, %, on people that are not the target, by models that count for it."""
    group = next(pair for pair in PAIRS if target in pair) if is_base else [target]
    others = rows[~rows["target"].isin(group)]
    if is_base:  # only models that saw nobody of the target's pair
        others = others[~others["base_participants"].str.split().map(set(group).intersection).astype(bool)]
    return 100 * others.groupby("candidate")[value].mean()


def judge(path: str) -> list[dict]:
    """Each person, for each seed, with the settings that the others chose for that person."""
    rows = read(path)
    if (rows["mode"] == "base_only").all():
        plans = [(rows, BASE, {"mode": "base_only"}, True, "base_all_accuracy")]
    else:
        parts = rows.groupby("target_data_pct")
        plans = [(part, FINETUNE, FULL | {"target_data_pct": share}, False, "test_accuracy") for share, part in parts]
    found = []
    for part, candidates, common, is_base, value in plans:
        for person in PEOPLE:
            chosen = list(candidates.values())[scores_without(part, person, is_base, value).idxmax()]
            job = SHIPPED | common | chosen | {"fold": PEOPLE.index(person)}
            found += [job | {"seed": seed} for seed in SEEDS]
    return found


def judgement(path: str) -> None:
    """What the chosen settings reach, over people and over seeds."""
    import pandas as pd

    rows = pd.read_csv(path)
    is_base = (rows["mode"] == "base_only").all()
    value, seed = ("base_all_accuracy", "base_seed") if is_base else ("test_accuracy", "seed")
    for share, part in [("all windows", rows)] if is_base else rows.groupby("target_data_pct"):
        people, seeds = 100 * part.groupby("target")[value].mean(), 100 * part.groupby(seed)[value].mean()
        print(
            f"{share}: mean {people.mean():.2f}, sd of people {people.std():.2f}, worst {people.min():.2f} ({people.idxmin()}); "
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
        case ["base"]:
            print(json.dumps(base_jobs()))
        case ["finetune"]:
            print(json.dumps(finetune_jobs()))
        case ["judge", path]:
            print(json.dumps(judge(path)))
        case ["table", path]:
            table(path)
        case ["judgement", path]:
            judgement(path)
        case _:
            sys.exit(__doc__)
