"""Adapting on some recordings of a person and testing on their others; nothing of a test recording reaches the model."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import PEOPLE, ROOT, job_of, plan, prepared, write_people

from rootstock.controller import checking
from rootstock.engine.files import load
from rootstock.job.train import train
from rootstock.study.problems import StudyError
from rootstock.tasks.activity.baselines import measure_baseline
from rootstock.tasks.activity.data import read_people
from rootstock.tasks.activity.folder import SPLITS
from rootstock.tasks.activity.prepare import load_recordings
from rootstock.tasks.activity.train import parts_of

FROM_SCRATCH = "target_only"
MODES = (
    "full_fine_tuning", "target_only_fine_tuning", "last_layer_only", "adapters", "prototypes", "normalise", FROM_SCRATCH,
)  # fmt: skip
ADAPTED_ON = 0


def by_recording(metric: str = "loss", **finetune: Any) -> dict[str, Any]:
    return {
        "data": {"path": "d", "split_by": "recording"},
        "participants": list(PEOPLE),
        "folds": [0],
        "base": {"max_epochs": 2, "lr": 0.01, "batch_size": 16, "early_stopping_metric": metric},
        "finetune": {"mode": list(MODES), "adapt_on": str(ADAPTED_ON), "max_epochs": 3} | finetune,
    }


def write_recordings(folder: Path) -> Path:
    """Every person's windows are of recordings 0 and 1 in turns; each has every class in every file."""
    write_people(folder)
    for file in folder.glob("*.pt"):
        x, y = torch.load(file, weights_only=True)
        torch.save((x, y, torch.arange(len(y)) // 3 % 2), file)
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_recordings(tmp_path / "d")


def spoil(folder: Path, person: str, recording: int) -> None:
    """Other numbers and other labels in every window of a recording, in whatever file it lies."""
    for file in folder.glob(f"{person}_*.pt"):
        x, y, number = torch.load(file, weights_only=True)
        is_it = number == recording
        torch.save((torch.where(is_it[:, None, None], 1000 * x + 7, x), torch.where(is_it, 2 - y, y), number), file)


def trained(study: dict[str, Any]) -> list[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Weights and metrics of every base and fine-tune of a study, in its order."""
    planned = prepared(plan(**study))
    kept = []
    for base in planned.bases.values():
        kept.append(train(job_of(base)))
        kept[-1].publish_base(Path(f"base_models/{base.hash}.pt"), Path(f"base_models/{base.hash}_metadata.json"))
    kept += [train(job_of(one)) for one in planned.experiments.values()]
    return [(load(one.model)["model"], one.described()["metrics"]) for one in kept]


def test_a_person_is_adapted_on_the_named_recordings_and_tested_on_all_others(folder):
    read = lambda people, splits: read_people(folder, people, splits)  # noqa: E731
    parts = parts_of("ann", (0,), read)
    assert {name: len(part) for name, part in parts.items()} == {"train": 18, "val": 6, "test": 24}
    assert {name: set(part.recording.tolist()) for name, part in parts.items()} == {
        "train": {0},
        "val": {0},
        "test": {1},
    }
    swapped = parts_of("ann", (1,), read)
    assert {name: len(part) for name, part in swapped.items()} == {"train": 18, "val": 6, "test": 24}
    assert len(parts_of("ann", None, read)["test"]) == 12


@pytest.mark.parametrize("metric", ["loss", "last"])
def test_no_window_of_a_test_recording_reaches_training_stopping_or_normalisation(folder, metric):
    before = trained(by_recording(metric))
    spoil(folder, "ann", 1 - ADAPTED_ON)
    after = trained(by_recording(metric))
    assert len(before) == len(after) == 1 + len(MODES)
    for (weights, metrics), (weights_now, metrics_now) in zip(before, after, strict=True):
        assert weights.keys() == weights_now.keys()
        assert all(torch.equal(weights[name], weights_now[name]) for name in weights)
        assert metrics.get("val") == metrics_now.get("val")
        assert "test" not in metrics or metrics["test"] != metrics_now["test"]  # that one is measured there


def test_what_a_fine_tune_learns_from_does_reach_it(folder):
    """The test above can fail: the same change of the recording that is adapted on changes every fine-tune."""
    before = trained(by_recording())
    spoil(folder, "ann", ADAPTED_ON)
    for (weights, _), (weights_now, _) in list(zip(before, trained(by_recording()), strict=True))[1:]:
        assert any(not torch.equal(weights[name], weights_now[name]) for name in weights)


def test_where_the_last_epoch_is_kept_every_window_trains_but_those_that_test(folder):
    (_, base), *tuned = trained(by_recording("last", mode=["full_fine_tuning", "adapters"]))
    others = sum(len(read_people(folder, (person,), SPLITS)) for person in PEOPLE if person != "ann")
    assert base["n_train"] == others and "base_test" not in base
    assert {metrics["n_target_train"] for _, metrics in tuned} == {24}
    assert not any("val" in metrics for _, metrics in tuned)
    assert [metrics["n_train"] for _, metrics in tuned] == [others + 24, 24]
    assert {metrics["base_all"]["n"] for _, metrics in tuned} == {48}  # each window of the person once


def test_both_directions_share_a_base_which_learns_from_all_recordings_of_the_others():
    planned = plan(**by_recording(adapt_on=["0", "1"]))
    assert len(planned.bases) == 1 and len(planned.experiments) == 2 * len(MODES)
    (base,) = plan(**by_recording() | {"data": {"path": "d"}, "finetune": {}}).bases
    assert base in planned.bases  # it is the base of the study that splits inside recordings
    assert {one.settings["adapt_on"] for one in planned.experiments.values()} == {"0", "1"}


def test_recordings_in_another_order_are_the_same_fine_tune():
    ways = (plan(**by_recording(adapt_on=way)).experiments.values() for way in ("0+1", "1+0"))
    one, other = ({experiment.hash for experiment in way} for way in ways)
    assert one == other


@pytest.mark.parametrize(
    ("data", "finetune", "line"),
    [
        ({"path": "d", "split_by": "recording"}, {"adapt_on": None}, "finetune.adapt_on: null missing; with data.split_by"),
        ({"path": "d"}, {"adapt_on": "0"}, "finetune.adapt_on: .0. needs data.split_by: recording"),
        ({"path": "d", "split_by": "recording"}, {"adapt_on": "left"}, ".left. names no such recordings; use their numbers"),
        ({"split_by": "recording"}, {"adapt_on": "0"}, ".0. names no such recordings; use left or right"),
        ({"split_by": "recording"}, {"adapt_on": "left+right"}, ".left.right. names no such recordings"),
    ],
)  # fmt: skip
def test_recordings_that_cannot_be_meant_are_told(data, finetune, line):
    study = by_recording(**finetune) | {"data": data}
    study |= {} if "path" in data else {"participants": ["s01", "s02"]}
    with pytest.raises(StudyError, match=line):
        plan(**study)


@pytest.mark.parametrize(
    ("tensor", "adapt_on", "line"),
    [
        (None, "0", "does not say which recording a window is from"),
        (torch.zeros(24), "0", "recording .the third tensor. is torch.float32"),
        (torch.zeros(24, dtype=torch.int64), "0", "has no recording beside .0.; nothing is left to test on"),
        (torch.arange(24) % 2, "0+5", "has recordings .0, 1., not 5"),
    ],
)
def test_a_folder_that_cannot_be_split_is_told_before_the_first_job(folder, monkeypatch, tensor, adapt_on, line):
    monkeypatch.setattr(checking, "is_slurm_here", lambda: False)
    for file in folder.glob("ann_*.pt"):
        x, y, _ = torch.load(file, weights_only=True)
        torch.save((x, y) if tensor is None else (x, y, tensor[: len(y)]), file)
    faults = checking.check_all(plan(**by_recording(adapt_on=adapt_on))).faults
    assert faults and any(re.search(line, fault) for fault in faults)


def test_the_smartwatch_is_prepared_with_the_arm_of_each_window():
    study = by_recording(mode="base_only", adapt_on=["left", "right"])
    planned = prepared(plan(**study | {"data": {"split_by": "recording", "pad": True}, "participants": None}))
    (artefact,) = planned.artefacts
    read = lambda people, splits: read_people(f"prepared/{artefact}", people, splits)  # noqa: E731
    everything = read(("s01",), ("train", "val", "test"))
    n_recorded = sum(len(signal) for signal, _, person, _ in load_recordings() if person == "s01")
    assert len(everything) > 0.9 * n_recorded / 100 - 14  # a window each 100 samples, but where one is cut
    left, right = (parts_of("s01", (side,), read) for side in (0, 1))
    assert len(left["test"]) == len(right["train"]) + len(right["val"])
    assert all(set(part.y.tolist()) == set(range(7)) for parts in (left, right) for part in parts.values())


def test_classical_models_are_tested_on_the_other_recordings_too():
    study = by_recording(mode="last_layer_only", adapt_on=["0", "1"]) | {"baselines": ["extra_trees"]}
    measured = [measure_baseline(one.spec, "d") for one in plan(**study).baselines.values()]
    assert [{row["adapt_on"] for row in rows} for rows in measured] == [{"0"}, {"1"}]
    assert {row["n"] for rows in measured for row in rows if row["measured_on"] == "test"} == {24}


def test_nothing_of_a_person_takes_part_in_the_choice_of_their_settings(monkeypatch):
    """Whatever is measured on a pair, or by models that saw one of it, both of the pair get the same settings."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import select_settings

    protocol = select_settings.RECORDING
    candidates, jobs = list(protocol.bases.values()), select_settings.base_jobs(protocol)
    rows = pd.DataFrame(jobs)[["fold", "base_participants", "prefix", "mode"]]
    rows["target"] = [select_settings.PEOPLE[fold] for fold in rows["fold"]]
    rows["base_participants"] = rows["base_participants"].str.join(" ")
    rows["candidate"] = rows["prefix"].str[-1].astype(int)
    rows["base_all_accuracy"] = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).numpy()
    for pair in select_settings.PAIRS:
        spoiled, chosen = rows.copy(), select_settings.chosen_by(pair, rows, protocol.bases)
        saw = rows["base_participants"].str.split().map(set(pair).intersection).astype(bool)
        spoiled.loc[rows["target"].isin(pair) | saw, "base_all_accuracy"] = 1.0 * (
            rows["candidate"] != candidates.index(chosen)
        )
        assert select_settings.chosen_by(pair, spoiled, protocol.bases) == chosen
        spoiled.loc[~(rows["target"].isin(pair) | saw), "base_all_accuracy"] = 1.0 * (rows["candidate"] == 0)
        assert select_settings.chosen_by(pair, spoiled, protocol.bases) == {}  # what counts is that of the others
