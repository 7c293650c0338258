#!/usr/bin/env python
"""Choose settings for each person without looking at that person: leave two people out.

For every pair {a, b} a base model is trained on the other people and measured on a and on b. For target a, a candidate
counts by its mean accuracy over all b, from models that saw neither a nor b. The pairs are a flat job list, so the
workflow trains each pair once for both its targets:

    python benchmarks/select_settings.py jobs > selection.json
    make run STUDY=selection.json
    python benchmarks/select_settings.py table results/selection/summary.csv
"""

import json
import sys

PEOPLE = [f"s{n:02d}" for n in range(1, 11)]
COMMON = {
    "data_pad": True, "data_mirror": True, "lr": 0.003, "schedule": "one_cycle", "label_smoothing": 0.1,
    "use_augmentation": True, "aug_prob": 0.8, "jitter_std": 0, "time_warp": 0, "rotation_std": 0.2, "mixup_alpha": 0.3,
}  # fmt: skip
CANDIDATES = {
    "pooled_20": {"model": "pooled", "max_epochs": 20},
    "pooled_30": {"model": "pooled", "max_epochs": 30},
}


def jobs() -> list[dict]:
    """For each candidate and ordered pair (a, b): the base without both, measured on a."""
    found = []
    for name, settings in CANDIDATES.items():
        for other in PEOPLE:
            people = [p for p in PEOPLE if p != other]
            for fold in range(len(people)):
                job = {"mode": "base_only", "fold": fold, "participants": people, "prefix": f"{name}_without_{other}"}
                found.append(COMMON | settings | job)
    return found


def table(path: str) -> None:
    """Each target's scores and the candidate it chooses."""
    import pandas as pd

    rows = pd.read_csv(path)
    names = rows["path"].str.extract(r"experiments/(?P<candidate>.+)_without_(?P<other>s\d\d)_")
    rows = rows.join(names)
    # For target a only measurements on others count: those of models from which a was left out too.
    score = rows.rename(columns={"other": "chooses_for"}).pivot_table("base_all_accuracy", "chooses_for", "candidate")
    score = (100 * score).round(2)
    score["chosen"] = score.idxmax(axis=1)
    print(score.to_string())
    print(score.drop(columns="chosen").mean().round(2).to_string())


if __name__ == "__main__":
    if sys.argv[1:] == ["jobs"]:
        print(json.dumps(jobs()))
    elif len(sys.argv) == 3 and sys.argv[1] == "table":
        table(sys.argv[2])
    else:
        sys.exit(__doc__)
