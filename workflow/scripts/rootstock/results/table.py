"""The table at the end of a run: a line a setting, over people and seeds, classical models beside."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

UNIT_COLUMNS = {"fold", "target"}
SEED_COLUMNS = {"seed", "base_seed"}
RESULTS_START = "base_hash"


def swept_columns(summary: pd.DataFrame) -> list[str]:
    """The settings that differ between experiments, other than who it is about and the seed; mode always first."""
    settings = list(summary.columns[: summary.columns.get_loc(RESULTS_START)])
    varying = [
        name
        for name in settings
        if name not in UNIT_COLUMNS | SEED_COLUMNS
        and not _follows_unit(summary, name)
        and name != "mode"
        and not _follows_mode(summary, name)
        and not _mirrors_base(summary, name)
    ]
    return (["mode"] if "mode" in settings else []) + varying


def table_of(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in % on the target's test part, for each swept setting: mean ± sd over people, worst person, gain.

    With several seeds each person's value is the mean over seeds, and `sd of seeds` is the sd of the mean over people.
    """
    by = swept_columns(summary)
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
    """The base models on all windows of the person they never saw, one value a person and seed."""
    measured = summary.dropna(subset=["base_all_accuracy"])
    return measured.drop_duplicates(["target", "base_hash"])[["target", "base_hash", "base_all_accuracy", "n_test_all"]]


def baseline_table(files: Sequence[str | Path]) -> pd.DataFrame:
    """Classical models over people: accuracy in % by what they learned on."""
    rows = [row for file in files for row in json.loads(Path(file).read_text())]
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    frame["accuracy"] *= 100
    groups = frame.groupby(["method", "learned_on", "target_data_pct", "measured_on"], sort=False, dropna=False)
    table = groups["accuracy"].agg(people="count", mean="mean", sd="std", worst="min").reset_index()
    table["windows"] = groups["n"].sum().to_numpy()
    return table


def render(summary: pd.DataFrame, baselines: pd.DataFrame) -> str:
    """All of it as text for a terminal."""
    parts = ["Personalised: accuracy on the target's test part, %", _text(table_of(summary))]
    unseen = unseen_people(summary)
    if len(unseen):
        people = 100 * unseen.groupby("target")["base_all_accuracy"].mean()
        windows = int(unseen.drop_duplicates("target")["n_test_all"].sum())
        parts.append(
            f"Base models on all windows of the person left out: mean {people.mean():.1f} %, sd {people.std():.1f}, "
            f"worst {people.min():.1f} ({people.idxmin()}); {windows} windows of {len(people)} people, "
            f"{unseen['base_hash'].nunique()} base models"
        )
    if len(baselines):
        parts += ["Classical models on the same windows, %", _text(baselines)]
    return "\n\n".join(parts) + "\n"


def _text(table: pd.DataFrame) -> str:
    shown = table.dropna(axis="columns", how="all").astype(object).where(table.notna(), "")
    formats = [".3g" if name == "target_data_pct" else ".1f" for name in shown]
    return tabulate(shown, headers="keys", showindex=False, floatfmt=tuple(formats), tablefmt="simple")


def _follows_mode(summary: pd.DataFrame, name: str) -> bool:
    """Whether a column says nothing that `mode` does not say: one value (or none) within each mode."""
    if "mode" not in summary or name not in summary:
        return name in summary and summary[name].nunique(dropna=False) == 1
    return bool((summary.groupby("mode")[name].nunique(dropna=False) <= 1).all())


def _follows_unit(summary: pd.DataFrame, name: str) -> bool:
    """Whether a column differs by target only, as the people of a base do when one of them is left out."""
    others = [other for other in ("mode", "target", "n_base_participants") if other in summary and other != name]
    return name == "base_participants" and bool((summary.groupby(others, dropna=False)[name].nunique() <= 1).all())


def _mirrors_base(summary: pd.DataFrame, name: str) -> bool:
    """Whether a fine-tune's value is only the one inherited from its base: then the base's column tells it."""
    base = f"base_{name}"
    if base not in summary:
        return False
    given = summary[summary[name].notna()]
    return bool((given[name] == given[base]).all())  # a value without a base (target_only) is nobody's mirror
