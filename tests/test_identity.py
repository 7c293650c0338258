"""Equal specs get equal hashes, however they were written down; different ones do not; old hashes stay."""

import json
import os
from typing import Annotated

import pytest
from conftest import plan
from hypothesis import given
from hypothesis import strategies as st

from rootstock.study.fields import Float, Int, Introduced, Section
from rootstock.study.fingerprints import Fingerprints
from rootstock.study.identity import canonical, digest
from rootstock.tasks.activity.specs import BaseSpec, FinetuneSpec


class Spec(Section):
    lr: Float
    epochs: Int
    name: str = "a"


class LaterSpec(Spec):
    momentum: Annotated[Float, Introduced(0.9)] = 0.9
    nesterov: Annotated[bool | None, Introduced(None)] = None


@given(st.integers(-(10**6), 10**6))
def test_a_number_is_typed_by_its_field_not_by_its_spelling(n):
    spellings = [Spec(lr=n, epochs=n), Spec(lr=float(n), epochs=float(n)), Spec(lr=str(n), epochs=str(n))]
    assert len({digest(s) for s in spellings}) == 1


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**40), st.text())
def test_canonical_json_reads_back_to_the_same_spec(lr, epochs, name):
    spec = Spec(lr=lr, epochs=epochs, name=name)
    again = Spec.model_validate(json.loads(canonical(spec)))
    assert canonical(again) == canonical(spec) and digest(again) == digest(spec)


@given(
    st.dictionaries(st.text(min_size=1), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
)
def test_the_order_of_keys_does_not_matter(settings):
    backwards = dict(reversed(list(settings.items())))
    assert canonical(settings) == canonical(backwards)


def test_unicode_is_normalised_and_minus_zero_is_zero():
    assert digest({"a": "e\u0301"}) == digest({"a": "\u00e9"})
    assert digest(Spec(lr=-0.0, epochs=1)) == digest(Spec(lr=0.0, epochs=1))


def test_a_later_field_leaves_old_hashes_alone_until_it_is_used():
    assert digest(LaterSpec(lr=1, epochs=2)) == digest(Spec(lr=1, epochs=2))
    assert digest(LaterSpec(lr=1, epochs=2, momentum=0.5)) != digest(Spec(lr=1, epochs=2))


def test_hashes_stay():
    """The names of models that people have on disk. If this fails, a change would retrain all of them."""
    found = plan(
        data={"pad": True},
        participants=["s01", "s02", "s03"],
        folds=[0],
        base={"max_epochs": 2, "use_augmentation": True},
        finetune={"mode": "last_layer_only", "target_data_pct": 0.5},
    )
    (experiment,) = found.experiments.values()
    assert (experiment.base, experiment.hash, experiment.prefix) == (
        "a715b1761c006c78",
        "9074cf353b9c087d",
        "last_layer_only_pct0.5_f3c043e2",
    )


BASE = {
    "lr": [1e-3, 2e-3], "weight_decay": [0.01, 0.1], "batch_size": [8, 16], "max_epochs": [3, 4],
    "schedule": ["constant", "cosine"], "gradient_clip": [None, 1.0], "early_stopping_patience": [None, 3],
    "early_stopping_metric": ["loss", "f1"], "seed": [0, 1], "label_smoothing": [0.0, 0.1],
    "model": ["test", "medium"], "dropout": [0.0, 0.5], "base_channels": [8, 9], "num_blocks": [4, 5],
    "use_dilation": [False, True], "use_residual": [False, True], "n_base_participants": [1, 2],
    "use_augmentation": [False, True], "participants": ["others", "all"], "precision": ["float32", "bf16"],
    "parent": [{"max_epochs": 1}, {"max_epochs": 2}], "pos_weight": None, "aug_prob": None,
    "jitter_std": None, "magnitude_range": None, "time_warp": None, "rotation_std": None, "mixup_alpha": None,
}  # fmt: skip
AUGMENTED = {
    "aug_prob": [0.5, 0.6], "jitter_std": [0.05, 0.1], "magnitude_range": [[0.8, 1.2], [0.5, 1.2]],
    "time_warp": [0.2, 0.3], "rotation_std": [0.2, 0.3], "mixup_alpha": [0.0, 0.3],
}  # fmt: skip


def base_hash(**base):
    *_, name = plan(data={"pad": True}, participants=["s01", "s02", "s03"], folds=[2], base=base).bases
    return name


@pytest.mark.parametrize("field", sorted(k for k, v in BASE.items() if v))
def test_every_base_setting_is_in_the_hash(field):
    one, other = ({field: value} for value in BASE[field])
    assert base_hash(**one) != base_hash(**other)


@pytest.mark.parametrize("field", sorted(AUGMENTED))
def test_augmentation_settings_count_only_with_augmentation(field):
    one, other = ({field: value if field != "magnitude_range" else [value]} for value in AUGMENTED[field])
    assert base_hash(**one) == base_hash(**other)
    assert base_hash(use_augmentation=True, **one) != base_hash(use_augmentation=True, **other)


def test_no_setting_is_forgotten_by_these_tests():
    from rootstock.tasks.activity.settings import Base

    assert set(Base.model_fields) == set(BASE)


def test_run_settings_are_not_in_the_hash():
    ways = [{"threads": 1}, {"threads": 8, "device": "cpu", "gpus": 2}]
    assert len({next(iter(plan(data={"pad": True}, base={}, folds=[0], run=run).bases)) for run in ways}) == 1


def test_a_file_that_took_anothers_place_is_another_file(tmp_path):
    """Equal in size and time: the content that was remembered is not its own."""
    file, other = tmp_path / "a", tmp_path / "b"
    for number, path in enumerate((file, other)):
        path.write_bytes(bytes([number] * 100))
        os.utime(path, ns=(1, 1))
    remembered = Fingerprints(tmp_path / "cache.json")
    before = remembered.of([file])
    remembered.save()
    os.replace(other, file)
    os.utime(file, ns=(1, 1))
    assert Fingerprints(tmp_path / "cache.json").of([file]) != before
    file.write_bytes(bytes([2] * 100))  # in its own place, its time set back
    os.utime(file, ns=(1, 1))
    assert Fingerprints(tmp_path / "cache.json").of([file]) == Fingerprints(tmp_path / "none.json").of([file])


def test_specs_survive_their_own_json():
    found = plan(
        data={"pad": True}, base={"use_augmentation": True}, finetune={"mode": ["full_fine_tuning", "target_only"]}
    )
    for training in found.bases.values():
        assert digest(BaseSpec.model_validate_json(training.json)) == training.hash
    for training in found.experiments.values():
        assert digest(FinetuneSpec.model_validate_json(training.json)) == training.hash
