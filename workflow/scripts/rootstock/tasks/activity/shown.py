"""What the page shows of activity recognition besides comparisons: data needed, confusions, curves, features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...machine.private import read_json
from ...results import draw, gains
from ...results.histories import History, history_of_base, history_of_experiment
from ...results.sections import Figure, Material, Section
from ...results.wording import counted
from ...study.plan import Experiment
from ...study.problems import Refusal
from .dataset import class_names
from .specs import DataIdentity, FinetuneSpec

MOST_CURVES = 12


def sections(material: Material) -> list[Section]:
    """The task's sections, in the order of a reader's questions."""
    return [
        Section(
            "How much data it takes",
            gains.amounts(material, _classical(material), _levels(material)),
            ("interval", "from scratch"),
        ),
        Section("Base, from scratch, fine-tuned", _three_ways(material), ("from scratch",)),
        Section("What is confused", _confusions(material)),
        Section("Learning curves", _curves(material)),
        Section("Features of the last layer", _features(material)),
    ]


def _classical(material: Material) -> dict[str, pd.DataFrame]:
    """Classical models that learned on a share of the person's windows: the mean over people at each share."""
    rows = pd.DataFrame(
        material.baselines, columns=["method", "learned_on", "target_data_pct", "measured_on", "target", "accuracy"]
    )
    rows = rows[(rows["measured_on"] == "test") & rows["target_data_pct"].notna()]
    rows = rows.assign(x=100 * rows["target_data_pct"].astype(float), mean=100 * rows["accuracy"])
    found = {}
    for (method, learned_on), group in rows.groupby(["method", "learned_on"], sort=False):
        people = group.groupby(["x", "target"])["mean"].mean()
        found[f"{method}, {learned_on}"] = people.groupby("x").mean().reset_index()
    return found


def _levels(material: Material) -> list[tuple[str, float]]:
    """The mean of the base models over people."""
    base = material.summary.groupby("target")["base_test_accuracy"].mean().dropna()
    return [("base model", 100 * base.mean())] if len(base) else []


def _three_ways(material: Material) -> list[Figure]:
    """Each person's score without their own data, with nothing else, and with both."""
    if material.chosen is None or material.chosen.kind != "base":
        return []
    same = [one for one in material.comparisons if one.kind == "scratch" and one.setting == material.chosen.setting]
    if not same:
        return []
    tuned, scratch = material.chosen.units, same[0].units
    starts = [tuned["before"], scratch["before"], tuned["after"]]
    values = pd.concat(starts, axis=1, join="inner", keys=["base model", "from scratch", "fine-tuned"])
    told = ", ".join(f"{name} {value:.1f}" for name, value in values.mean().items())
    caption = f"{material.chosen.label}, and {same[0].against} on as much. A line a person; the thick one is the mean."
    drawn = draw.pairs(values, gains.axis_of(material.question.measure))
    return [Figure("three_ways", "What each start is worth", caption, f"Means: {told}.", drawn, values.reset_index())]


def _confusions(material: Material) -> list[Figure]:
    """How the base models and the answer's fine-tunes classify the test windows of all people together."""
    chosen = _chosen(material)
    measured = [_metrics(one) for one in chosen]
    sums = {}
    for name, part in (("base models", "base_test"), ("fine-tuned", "test")):
        counts = [np.array(one[part]["confusion"]) for one in measured if one.get(part, {}).get("confusion")]
        if counts and len({count.shape for count in counts}) == 1:
            names = class_names(_data_of(chosen[0]), len(counts[0]))
            sums[name] = pd.DataFrame(np.sum(counts, axis=0), index=names, columns=names)
    if not sums:
        return []
    right = "; ".join(
        f"{name}: {np.trace(frame):.0f} of {frame.to_numpy().sum():.0f} right" for name, frame in sums.items()
    )
    data = pd.concat([frame.assign(model=name).reset_index(names="true class") for name, frame in sums.items()])
    what = f"Test windows of {counted(len(measured), 'training', 'trainings')}, {_label(material)}"
    caption = (
        f"{what}. A row is what a window is, shaded by its share; the diagonal is right. {right[0].upper()}{right[1:]}."
    )
    drawn = draw.matrices(sums, "called class", "true class")
    return [Figure("confusions", "Confusion matrices", caption, f"{right}.", drawn, data)]


def _curves(material: Material) -> list[Figure]:
    """Loss on the data that chose the epoch, of base models and the answer's fine-tunes, with the kept epoch marked."""
    chosen = _chosen(material)
    bases = {base[:8]: history_of_base(base) for base in dict.fromkeys(one.base for one in chosen) if base}
    tuned = {one.unit: history_of_experiment(one) for one in chosen}
    drawn = [_curve("base_curves", "Base models", bases), _curve("curves", f"Fine-tunes, {_label(material)}", tuned)]
    return [figure for figure in drawn if figure]


def _curve(name: str, title: str, histories: Mapping[str, History]) -> Figure | None:
    found = {who: one for who, one in histories.items() if len(one) and "val_loss" in one.epochs}
    if not found:
        return None
    lines = {who: one.epochs[["epoch", "val_loss"]].set_axis(["x", "y"], axis=1) for who, one in found.items()}
    shown = dict(list(lines.items())[:MOST_CURVES])
    data = pd.concat([one.epochs.assign(who=who, kept=one.epochs["epoch"] == one.kept) for who, one in found.items()])
    rest = f" The first {len(shown)} of {len(lines)}; the csv has all." if len(shown) < len(lines) else ""
    caption = f"Loss on the windows that choose the epoch; a mark at the epoch that was kept.{rest}"
    kept = sorted(found[who].kept for who in shown)
    alt = f"{len(shown)} curves; epochs {kept[0]} to {kept[-1]} were kept."
    stops = {who: one.kept for who, one in found.items()}
    return Figure(name, title, caption, alt, draw.curves(shown, "epoch", "loss", stops), data)


def _label(material: Material) -> str:
    return material.chosen.label if material.chosen else ""


def _features(material: Material) -> list[Figure | str]:
    """The features for the person who gains most in the answer's setting. Loads torch."""
    if material.chosen is None or material.chosen.kind != "base":
        return []
    most = material.chosen.gains.idxmax()
    mine = [one for one in _chosen(material) if getattr(one.spec, "target", None) == most]
    if not mine:
        return []
    from .features import features_figures

    return features_figures(mine[0], material.plan, material.chosen.label)


def _chosen(material: Material) -> list[Experiment]:
    """The experiments of the setting that the answer speaks of, the first seed of each person."""
    if material.chosen is None:
        return []
    rows = material.summary
    for name, value in material.chosen.setting.items():
        rows = rows[rows[name] == value]
    wanted = set(rows.drop_duplicates("target")["path"])
    return [one for one in material.plan.experiments.values() if one.path in wanted]


def _metrics(experiment: Experiment) -> dict[str, Any]:
    try:
        return read_json(Path(experiment.path) / "metrics.json")["metrics"]
    except (OSError, ValueError, LookupError, Refusal):
        return {}


def _data_of(experiment: Experiment) -> DataIdentity:
    assert isinstance(experiment.spec, FinetuneSpec)
    return experiment.spec.data
