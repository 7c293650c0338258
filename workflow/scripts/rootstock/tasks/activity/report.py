"""What is shown of activity recognition: columns of `summary.csv`, the table over people and seeds, the figure."""

from pathlib import Path
from typing import Any

import pandas as pd

from ...results.figure import dots_by_row
from ...results.question import Measure, Question
from ...results.summary import swept_columns
from .methods import methods
from .shares import text_of, told_of
from .shown import sections

__all__ = ["draw", "methods", "question", "render", "result_columns", "sections"]

UNIT_COLUMNS = ("fold", "target")
SEED_COLUMNS = ("seed", "base_seed")
MEASURED = (
    ("base_test", "loss"),
    ("base_test", "accuracy"),
    ("base_test", "f1"),
    ("base_all", "accuracy"),
    ("test", "loss"),
    ("test", "accuracy"),
    ("test", "f1"),
)
ACCURACY = Measure(
    "test_accuracy",
    "base_test_accuracy",
    "accuracy on the person's test set",
    "%",
    100,
    best=100,
    change_unit="points",
)


def result_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """The result columns of one experiment; accuracies are fractions."""
    counts = {"n_test": metrics.get("test", {}).get("n"), "n_test_all": metrics.get("base_all", {}).get("n")}
    measured = {f"{part}_{name}": metrics.get(part, {}).get(name) for part, name in MEASURED}
    kept: dict[str, Any] = {}
    if "kept_base" in metrics:  # show what was measured before the choice too
        kept = {"kept_base": metrics["kept_base"], "tuned_accuracy": metrics["before_keeping"]["test"]["accuracy"]}
    return {"n_target_train": metrics.get("n_target_train", 0), **measured, **counts, **kept}


def question(summary: pd.DataFrame) -> Question:
    """Does fine-tuning help the target, how much of their data does it take, and is it better than from scratch?"""
    return Question(
        measure=ACCURACY,
        unit="target",
        words=("person", "people"),
        settings=tuple(_varied(summary)),
        seeds=SEED_COLUMNS,
        amount="target_data_pct",
        amount_words="of a person's windows",
        scratch=("target_only",),
    )


def render(summary: pd.DataFrame, baselines: list[dict[str, Any]]) -> str:
    """All results as text for a terminal."""
    table = table_of(summary)
    parts = ["Personalised: accuracy on the target's test set, %" + told_of(table), text_of(table)]
    unseen = unseen_people(summary)
    if len(unseen):
        people = 100 * unseen.groupby("target")["base_all_accuracy"].mean()
        spread = f"sd {people.std():.1f}, " if len(people) > 1 else ""
        windows = int(unseen.drop_duplicates("target")["n_test_all"].sum())
        parts.append(
            f"Base models on all windows of the person left out: mean {people.mean():.1f} %, "
            f"{spread}worst {people.min():.1f} ({people.idxmin()}); {windows} windows of {len(people)} people, "
            f"{unseen['base_hash'].nunique()} base models"
        )
    if baselines:
        classical = baseline_table(baselines)
        parts += [f"Classical models on the same windows, %{told_of(classical)}", text_of(classical)]
    return "\n\n".join(parts) + "\n"


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Draw one row per setting, base models first: a dot per person, a bar for the mean."""
    rows = [("base model", 100 * summary.groupby("target")["base_test_accuracy"].mean().dropna())]
    for key, group in summary.groupby(_varied(summary), sort=False, dropna=False):
        label = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in key if v == v and v is not None)
        rows.append((label, 100 * group.groupby("target")["test_accuracy"].mean()))
    dots_by_row(rows, "accuracy on the person's test set, %  (dot: a person, line: mean)", path)


def table_of(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in % on the target's test set, for each swept setting: mean ± sd over people, worst person, gain.

    With several seeds each person's value is the mean over seeds; `sd of seeds` is the sd of the seeds' own means.
    """
    by = _varied(summary)
    rows = []
    for key, group in summary.groupby(by, sort=False, dropna=False):
        people = 100 * group.groupby("target")["test_accuracy"].mean()
        gain = 100 * (group["test_accuracy"] - group["base_test_accuracy"]).groupby(group["target"]).mean()
        seed = next((name for name in ("seed", "base_seed") if name in group and group[name].notna().any()), "mode")
        seeds = 100 * group.groupby(seed)["test_accuracy"].mean()
        rows.append(
            dict(zip(by, key, strict=True))
            | {
                "people": len(people),
                "windows": int(group.groupby("target")["n_test"].first().sum()),
                "n train": group["n_target_train"].mean(),
                "mean": people.mean(),
                "sd": people.std(),
                "worst": people.min(),
                "gain": gain.mean(),
                "macro F1": 100 * group.groupby("target")["test_f1"].mean().mean(),
                "seeds": len(seeds),
                "sd of seeds": seeds.std() if len(seeds) > 1 else None,
            }
        )
    return pd.DataFrame(rows)


def unseen_people(summary: pd.DataFrame) -> pd.DataFrame:
    """Base models on all windows of a person they never saw, one value per person and base model."""
    measured = summary.dropna(subset=["base_all_accuracy"])
    if "base_saw_target" in measured:
        measured = measured[measured["base_saw_target"] == False]  # noqa: E712 (None where there is no base)
    return measured.drop_duplicates(["target", "base_hash"])[["target", "base_hash", "base_all_accuracy", "n_test_all"]]


def baseline_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Classical models over people: accuracy in % by what they learned on, and by the number of others if it differs.
    With several seeds each person's value is the mean over seeds."""
    frame = pd.DataFrame(rows)
    frame["accuracy"] *= 100
    by = ["method", "learned_on", "target_data_pct", "measured_on"]
    if frame["others"].nunique() > 1:
        by.insert(2, "others")
    if "target_shots" in frame and frame["target_shots"].notna().any():
        by.insert(by.index("target_data_pct") + 1, "target_shots")
    if "adapt_on" in frame and frame["adapt_on"].notna().any():
        by.insert(2, "adapt_on")
    people = frame.groupby([*by, "target"], sort=False, dropna=False)[["accuracy", "n"]].agg(
        {"accuracy": "mean", "n": "first"}
    )
    groups = people.groupby(by, sort=False, dropna=False)
    table = groups["accuracy"].agg(people="count", mean="mean", sd="std", worst="min").reset_index()
    table["windows"] = groups["n"].sum().to_numpy()
    return table


def _varied(summary: pd.DataFrame) -> list[str]:
    """The settings that differ between experiments, apart from the unit and the seed."""
    varied = swept_columns(summary, (*UNIT_COLUMNS, *SEED_COLUMNS, "base_saw_target"))
    return [name for name in varied if not (name == "base_participants" and _follows_target(summary))]


def _follows_target(summary: pd.DataFrame) -> bool:
    """Whether the people of a base differ by target only, as they do when one is left out."""
    others = [name for name in ("mode", "target", "n_base_participants") if name in summary]
    return bool((summary.groupby(others, dropna=False)["base_participants"].nunique() <= 1).all())
