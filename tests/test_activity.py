"""Models, augmentation, windows and batches of the activity task."""

import importlib.metadata
import json
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PEOPLE, job_of, plan, write_people
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from rootstock.engine.files import load
from rootstock.engine.metrics import classification_metrics, confusion_counts
from rootstock.engine.rows import Rows
from rootstock.job.train import train
from rootstock.study.problems import Refusal
from rootstock.study.run import Run
from rootstock.tasks.activity.augment import (
    Augmentation,
    epoch_key,
    keyed_normal,
    keyed_uniform,
    mixup_draws,
    rotate,
    warp_time,
)
from rootstock.tasks.activity.batches import composed_batches, even_batches
from rootstock.tasks.activity.data import Windows, stratified_order, take_share
from rootstock.tasks.activity.dataset import SMARTWATCH_NAMES, class_names
from rootstock.tasks.activity.models import build_model, last_layer
from rootstock.tasks.activity.prepare import cut_windows, load_recordings, prepare, split_by_time
from rootstock.tasks.activity.presets import PRESETS
from rootstock.tasks.activity.report import baseline_table, table_of, unseen_people
from rootstock.tasks.activity.shares import by_share, text_of, told_of
from rootstock.tasks.activity.specs import DataIdentity, Model
from rootstock.tasks.activity.trainee import window_loss


def model_of(preset: str, outputs: int = 1, **settings):
    architecture, defaults = PRESETS[preset]
    return build_model(Model(architecture=architecture, settings=defaults | settings), 6, outputs)


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_presets_have_the_sizes_they_are_known_by():
    assert parameters(model_of("test")) == 969
    assert parameters(model_of("test", base_channels=64)) == 50_753
    assert 450_000 < parameters(model_of("medium", 7)) < 550_000
    assert parameters(model_of("pooled", 7)) == 51_847


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("samples", [64, 200, 300])
def test_every_preset_maps_windows_to_outputs_and_learns(preset, samples):
    model = model_of(preset, 7)
    logits = model(torch.randn(5, 6, samples))
    assert logits.shape == (5, 7)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert last_layer(model).out_features == 7


def test_dilation_keeps_the_size_and_residuals_project_where_channels_change():
    plain, wide = model_of("test"), model_of("test", use_dilation=True)
    assert parameters(plain) == parameters(wide)
    assert [b.conv.dilation[0] for b in wide.network.blocks] == [1, 2, 4, 8]
    residual = model_of("test", use_residual=True)
    assert [b.project is not None for b in residual.network.blocks] == [True, False, False, True]
    assert [b.pool for b in model_of("test", num_blocks=5).network.blocks] == [True, False, True, False, False]


def test_statistics_are_learned_once_and_saved_with_the_weights():
    model = model_of("test")
    windows = 5 + 3 * torch.randn(50, 6, 40)
    windows[:, 2] = 7.0
    model.learn_statistics(windows)
    normal = (windows - model.mean) / model.std
    assert torch.allclose(normal.mean((0, 2)), torch.zeros(6), atol=1e-5)
    assert torch.isfinite(normal).all() and {"mean", "std"} < set(model.state_dict())


def test_a_model_that_cannot_be_built_is_refused_with_its_settings():
    with pytest.raises(Refusal, match="base_channels: 12"):
        model_of("pooled", base_channels=12)


def test_keyed_numbers_are_uniform_and_normal_and_independent():
    samples = torch.arange(20_000)
    uniform = keyed_uniform(123, samples, 4)
    assert uniform.min() > 0 and uniform.max() < 1
    assert torch.allclose(uniform.mean(0), torch.full((4,), 0.5), atol=0.01)
    assert torch.allclose(torch.corrcoef(uniform.T), torch.eye(4), atol=0.03)
    assert abs(torch.corrcoef(torch.stack([uniform[:-1, 0], uniform[1:, 0]]))[0, 1]) < 0.03
    normal = keyed_normal(123, samples, 3)
    assert torch.allclose(normal.mean(0), torch.zeros(3), atol=0.03) and torch.allclose(
        normal.std(0), torch.ones(3), atol=0.03
    )
    assert not torch.equal(uniform, keyed_uniform(epoch_key(0, 2), samples, 4))


AUGMENT = Augmentation(prob=0.7, jitter_std=0.1, magnitude_range=(0.8, 1.2), time_warp=0.3, rotation_std=0.3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10), st.integers(1, 50), st.permutations(range(12)))
def test_augmentation_depends_on_sample_and_epoch_not_on_the_batch(seed, epoch, order):
    windows = torch.randn(12, 6, 40, generator=torch.Generator().manual_seed(1))
    key, scale, order = epoch_key(seed, epoch), torch.ones(6, 1), torch.tensor(order)
    whole = AUGMENT(windows.clone(), scale, torch.arange(12), key)
    shuffled = AUGMENT(windows[order], scale, order, key)
    alone = torch.cat([AUGMENT(windows[i : i + 1].clone(), scale, torch.tensor([i]), key) for i in range(12)])
    assert torch.equal(whole[order], shuffled)
    assert torch.allclose(whole, alone, atol=1e-6)
    assert not torch.equal(whole, AUGMENT(windows.clone(), scale, torch.arange(12), epoch_key(seed, epoch + 1)))


def test_each_change_happens_with_its_probability():
    windows, scale, samples = torch.randn(2000, 6, 10), torch.ones(6, 1), torch.arange(2000)
    for prob in (0.0, 0.25, 1.0):
        changed = Augmentation(prob, 0.1, (1.0, 1.0), 0.0, 0.0)(windows.clone(), scale, samples, 5)
        share = (changed != windows).any(2).any(1).float().mean()
        assert abs(share - prob) < 0.03


def test_rotation_turns_both_triads_alike_and_keeps_lengths():
    windows = torch.randn(50, 3, 20).repeat(1, 2, 1)
    turned = rotate(windows, torch.arange(50), 3, 0.5)
    norm = lambda x: x.view(50, 2, 3, 20).norm(dim=2)  # noqa: E731
    assert torch.allclose(norm(turned), norm(windows), atol=1e-4)
    assert torch.allclose(turned[:, :3], turned[:, 3:], atol=1e-5)
    assert not torch.allclose(turned, windows, atol=0.1)
    with pytest.raises(Refusal, match="rotation_std"):
        rotate(torch.zeros(1, 4, 8), torch.arange(1), 0, 0.1)


def test_time_warp_really_warps_and_keeps_the_ends():
    ramp = torch.linspace(0, 1, 100).expand(30, 1, 100)
    warped = warp_time(ramp, torch.arange(30), 9, 0.4)
    assert torch.allclose(warped[:, :, 0], ramp[:, :, 0], atol=1e-6) and torch.allclose(
        warped[:, :, -1], ramp[:, :, -1], atol=1e-5
    )
    speed = warped.diff(dim=2) * 99
    assert (speed > 0).all() and speed.max() <= 1.45 and speed.min() >= 0.55
    assert ((warped - ramp).abs().amax(dim=(1, 2)) > 0.01).float().mean() > 0.8


def test_mixup_pairs_every_sample_once():
    weight, partner = mixup_draws(0.3, seed=1, epoch=4, n_samples=500)
    assert sorted(partner.tolist()) == list(range(500)) and weight.min() >= 0 and weight.max() <= 1
    again = mixup_draws(0.3, seed=1, epoch=4, n_samples=500)
    assert torch.equal(weight, again[0]) and not torch.equal(weight, mixup_draws(0.3, 1, 5, 500)[0])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=5),
    st.integers(0, 5),
)
def test_shares_are_nested_and_as_near_as_whole_windows_allow(labels, shares, seed):
    windows = Windows(Rows([torch.arange(len(labels)).float()[:, None, None]]), torch.tensor(labels))
    taken = [set(take_share(windows, share, seed).x.all().flatten().tolist()) for share in sorted(shares)]
    assert all(small <= large for small, large in pairwise(taken))
    for share, chosen in zip(sorted(shares), taken, strict=True):
        assert len(chosen) == max(1, round(share * len(labels)))


def test_shares_are_stratified():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = stratified_order(labels, 0)
    for count in (10, 20, 50):
        found = torch.bincount(labels[order[:count]], minlength=3).double()
        assert torch.allclose(found, torch.tensor([0.6, 0.3, 0.1]).double() * count, atol=1.01)


@given(st.integers(1, 300), st.integers(1, 70))
def test_even_batches_cover_everything_once_with_sizes_that_differ_by_one(n, batch_size):
    batches = even_batches(torch.randperm(n), batch_size)
    sizes = [len(b) for b in batches]
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1


@given(st.integers(1, 200), st.integers(1, 40), st.integers(2, 64), st.floats(0.01, 0.99))
def test_composed_batches_hold_the_share_and_pass_once_over_the_base(n_base, n_target, batch_size, share):
    batches = composed_batches(n_base, n_target, batch_size, share, torch.Generator().manual_seed(0))
    per_base = (whole := min(batch_size - 1, max(1, round(share * batch_size)))) / (batch_size - whole)
    base = torch.cat([b[b < n_base] for b in batches])
    target = torch.cat([b[b >= n_base] for b in batches])
    assert sorted(base.tolist()) == list(range(n_base))
    for batch in batches:
        from_base = int((batch < n_base).sum())
        assert len(batch) - from_base == max(1, round(from_base * per_base)) and len(batch) <= batch_size
    uses = torch.bincount(target - n_base, minlength=n_target)
    assert uses.max() - uses.min() <= 1  # cycled: nobody is used twice before everybody was used once


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_metrics_equal_scikit_learn(pairs):
    actual, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    counts = confusion_counts(torch.from_numpy(predicted), torch.from_numpy(actual), 4)
    found = classification_metrics(counts, 3.0)
    assert found["confusion"] == confusion_matrix(actual, predicted, labels=range(4)).tolist()
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert math.isclose(found[name], score(actual, predicted, average="macro", zero_division=0), abs_tol=1e-12)
    assert math.isclose(found["accuracy"], (actual == predicted).mean()) and found["loss"] == 3.0 / len(pairs)


def test_losses_equal_torchs_own():
    logits, y = torch.randn(9, 4), torch.arange(9) % 4
    soft = torch.nn.functional.one_hot(y, 4).float()
    assert torch.allclose(
        window_loss(logits, soft, 0.1, None), torch.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum")(logits, y)
    )
    binary, labels = torch.randn(9, 1), (torch.arange(9) % 2).float()[:, None]
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0), reduction="sum")(binary, labels)
    assert torch.allclose(window_loss(binary, labels, 0.0, 3.0), expected)


def test_recordings_are_the_published_ones():
    recordings = load_recordings()
    assert len(recordings) == 140 and len({(p, y, s) for _, y, p, s in recordings}) == 140
    assert sorted({p for _, _, p, _ in recordings}) == [f"s{n:02d}" for n in range(1, 11)]
    assert all(x.shape[1] == 6 and 940 < len(x) < 2650 for x, _, _, _ in recordings)


def test_no_window_crosses_a_boundary():
    recording = np.arange(1000, dtype=np.float32)[:, None].repeat(6, 1)
    train, val, test = split_by_time(recording, (0.6, 0.2, 0.2))
    assert (len(train), len(val), len(test)) == (600, 200, 200)
    windows = cut_windows(val, 150, 25)
    assert [w[0, 0] for w in windows] == [600, 625, 650] and all(w[0, -1] < 800 for w in windows)
    padded = cut_windows(val[:50], 150, 25)
    assert len(padded) == 1 and padded[0].shape == (6, 150) and (padded[0][:, 50:] == 0).all()


def test_preparation_refuses_short_parts_unless_told_to_pad(tmp_path):
    identity = DataIdentity(
        name="smartwatch",
        version="x",
        window_size=200,
        window_stride=100,
        split=(0.6, 0.2, 0.2),
        pad=False,
        mirror=False,
    )
    with pytest.raises(Refusal, match="pad: true"):
        prepare(identity, tmp_path / "out", Run(), print)
    assert not (tmp_path / "out").exists()
    prepare(identity.model_copy(update={"pad": True}), tmp_path / "out", Run(), print)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert sum(sum(person.values()) for person in manifest["windows"].values()) == 1815
    x, y = torch.load(tmp_path / "out/s01_test.pt", weights_only=True)
    assert x.shape == (36, 6, 200) and x.dtype == torch.float32 and y.dtype == torch.int64


def test_mirroring_changes_left_arms_only(tmp_path):
    identity = DataIdentity(
        name="smartwatch", version="x", window_size=200, window_stride=100, split=(0.6, 0.2, 0.2), pad=True
    )
    for mirror in (False, True):
        prepare(identity.model_copy(update={"mirror": mirror}), tmp_path / str(mirror), Run(), print)
    plain, mirrored = (torch.load(tmp_path / f"{m}/s02_train.pt", weights_only=True)[0] for m in (False, True))
    sign = torch.tensor([-1.0, 1, 1, 1, -1, -1])[:, None]
    same = (plain == mirrored).flatten(1).all(1)
    assert 0 < same.sum() < len(same)
    assert torch.equal(plain[~same] * sign, mirrored[~same])


def test_people_are_counted_once_whatever_the_seeds_and_the_others():
    row = {"method": "svc", "learned_on": "others", "target_data_pct": None, "measured_on": "all", "n": 10, "f1": 0.5}
    rows = [row | {"target": t, "accuracy": a, "others": 2} for t, a in (("ann", 0.5), ("ann", 0.7), ("bob", 0.8))]
    (line,) = baseline_table(rows).to_dict("records")
    assert (line["people"], line["windows"], line["worst"]) == (2, 20, pytest.approx(60))
    assert line["mean"] == pytest.approx(70) and line["sd"] == pytest.approx(math.sqrt(200))
    assert baseline_table([*rows, rows[0] | {"others": 1}])["people"].tolist() == [2, 1]


def test_shares_stand_side_by_side_with_the_mean_and_the_worst_person():
    row = {"base_hash": "1", "base_test_accuracy": 0.5, "test_f1": 0.5, "n_test": 10, "n_target_train": 5}
    rows = [{"mode": mode, "target_data_pct": share, "target": who, "seed": seed} | row | {"test_accuracy": 0.7 + by + seed / 10}
            for mode, shares in (("base_only", [None]), ("tuned", [0.125, 1.0])) for share in shares
            for who, by in (("ann", 0.0), ("bob", 0.1)) for seed in ((0, 1) if share else (0,))]  # fmt: skip
    summary = pd.DataFrame(rows)[["mode", "target_data_pct", "seed", "target", *row, "test_accuracy"]]
    table = table_of(summary.drop(columns="target").assign(target=summary["target"]))
    assert by_share(table).to_dict("records") == [
        {"mode": "base_only", "0 %": "75.0 (70.0)", "12.5 %": "", "100 %": ""},
        {"mode": "tuned", "0 %": "", "12.5 %": "80.0 ± 7.1 (75.0)", "100 %": "80.0 ± 7.1 (75.0)"},
    ]
    assert told_of(table) == ": mean over people, ± sd over seeds (worst person), 2 people, 20 windows"
    shots = table.iloc[[1]].assign(target_data_pct=None, target_shots=5)
    beside = by_share(pd.concat([table, shots])).to_dict("records")
    assert [(row["0 %"], row["by shots"]) for row in beside] == [
        ("75.0 (70.0)", ""),
        ("", ""),
        ("", "80.0 ± 7.1 (75.0)"),
    ]
    last = text_of(table.assign(lr=0.001)).splitlines()[-1]
    assert " ".join(last.split()) == "tuned 0.001 80.0 ± 7.1 (75.0) 80.0 ± 7.1 (75.0)"
    alone = table[table["target_data_pct"] != 1.0]
    assert told_of(alone) == "" and "macro F1" in text_of(alone) and "macro F1" not in text_of(table)


def test_classes_have_the_names_of_the_data_set():
    files = importlib.metadata.files("seglearn") or []
    (file,) = [file for file in files if file.name == "watch_dataset.npy"]
    content = np.load(str(file.locate()), allow_pickle=True).item()
    assert list(SMARTWATCH_NAMES) == content["y_labels"]
    assert class_names(DataIdentity(name="smartwatch"), 7) == content["y_labels"]
    assert class_names(DataIdentity(name="folder"), 3) == ["0", "1", "2"]


def test_whoever_a_base_saw_is_not_left_out():
    summary = pd.DataFrame(
        [{"target": t, "base_hash": h, "base_all_accuracy": 0.9, "n_test_all": 5, "base_saw_target": saw}
         for t, h, saw in (("ann", "1", False), ("ann", "2", True), ("bob", "3", None))]
    )  # fmt: skip
    assert unseen_people(summary)["base_hash"].tolist() == ["1"]


def test_a_stage_keeps_the_classes_of_its_parent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "d")
    for split in ("train", "val", "test"):  # cleo alone knows two classes only
        x, y = torch.load(tmp_path / f"d/cleo_{split}.pt", weights_only=True)
        torch.save((x, y % 2), tmp_path / f"d/cleo_{split}.pt")
    folds = {"data": {"path": "d"}, "participants": list(PEOPLE), "folds": [0]}
    for parent, own in (("bob", "cleo"), ("cleo", "bob")):
        base = {"max_epochs": 1, "participants": [own], "parent": {"participants": [parent]}}
        first, second = plan(**folds, base=base).bases.values()
        kept = train(job_of(first))
        kept.publish_base(
            tmp_path / f"base_models/{first.hash}.pt", tmp_path / f"base_models/{first.hash}_metadata.json"
        )
        if own == "cleo":
            assert load(train(job_of(second)).model)["n_classes"] == 3
        else:
            with pytest.raises(Refusal, match="the model knows 0 to 1; set data"):
                train(job_of(second))
