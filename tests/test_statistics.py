"""Gains with interval and chance: equal to scipy's and statsmodels', to values by hand, and honest where little is there."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from results_by_hand import LOSS, question, rows, study
from scipy import stats
from statsmodels.stats.multitest import multipletests

from rootstock.results import statistics
from rootstock.results.comparisons import compare

pytestmark = pytest.mark.filterwarnings("error")

TEN = [3.1, 0.2, 4.0, -0.5, 2.2, 1.9, 0.0, 5.3, 2.7, 1.1]


def only(summary, asked=None):
    [one] = compare(summary, asked or question())
    return one


def by(comparisons):
    return {(one.kind, one.label): one for one in comparisons}


def test_the_interval_is_scipys_bca():
    found = only(study(rows(TEN)))
    wanted = stats.bootstrap(
        (np.array(TEN),), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.mean == pytest.approx(np.mean(TEN)) and found.low < found.mean < found.high


def test_equal_gains_have_the_interval_of_the_percentile_method():
    found = only(study(rows([2.0] * 7)))
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))


def test_p_counts_every_flip_of_signs():
    gains = np.array(TEN)
    flipped = [np.mean(gains * signs) for signs in product((1, -1), repeat=10)]
    wanted = np.mean(np.abs(flipped) >= abs(gains.mean()) - 1e-12)
    assert only(study(rows(TEN))).p == pytest.approx(wanted)
    assert only(study(rows(-gains))).p == pytest.approx(wanted)


def test_p_of_many_units_is_scipys_of_as_many_draws():
    gains = np.random.default_rng(7).normal(0.4, 1, 40)
    wanted = stats.permutation_test(
        (gains.round(9),), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
    )
    assert only(study(rows(gains))).p == pytest.approx(wanted.pvalue)
    assert statistics.is_exact(13) and not statistics.is_exact(14)


@pytest.mark.parametrize("units", [6, 9, 13])
def test_the_smallest_p_is_that_of_all_units_gaining(units):
    found = only(study(rows([1.0 + 0.1 * k for k in range(units)])))
    assert found.p == pytest.approx(found.smallest_p) == pytest.approx(2 / 2**units)


def test_the_smallest_p_of_drawn_flips_is_that_of_all_units_gaining():
    assert statistics.sign_flip_p(np.ones((1, 60)))[0] == pytest.approx(statistics.smallest_p(60))


def test_holm_is_over_all_comparisons_that_are_tested():
    summary = study(
        rows(TEN, share=0.1), rows([g - 1 for g in TEN], share=0.5), rows(TEN[:5], share=1.0),  # five: not tested
        rows([87 + g for g in TEN], mode="scratch", share=0.1, before=None),
    )  # fmt: skip
    found = compare(summary, question())
    tested = [one for one in found if one.can_tell]
    assert [one.kind for one in tested] == ["base", "base", "scratch"]
    wanted = multipletests([one.p for one in tested], method="holm")[1]
    assert [one.p_holm for one in tested] == pytest.approx(list(wanted))
    assert {one.n_tested for one in found} == {3}
    assert [one.smallest_p_holm for one in tested] == pytest.approx(
        [3 * 2 / 2**9, 3 * 2 / 2**10, 3 * 2 / 2**10]
    )  # a tie
    [few] = [one for one in found if not one.can_tell]
    assert np.isnan([few.p, few.p_holm, few.low, few.high]).all()


def test_holm_by_hand():
    assert statistics.holm([0.01, float("nan"), 0.04, 0.03]) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert np.isnan(statistics.holm([float("nan")])).all() and statistics.holm([]).size == 0


def test_probability_of_improvement_is_the_mean_of_u_over_units():
    better, worse = [np.array([3.0, 1.0, 2.0]), np.array([5.0])], [np.array([2.0, 0.5]), np.array([5.0, 6.0])]
    shares = [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(better, worse, strict=True)]
    assert statistics.probability_of_improvement(better, worse) == pytest.approx(np.mean(shares))
    assert statistics.probability_of_improvement(better, worse) == pytest.approx((4.5 / 6 + 0.5 / 2) / 2)


def test_without_seeds_it_is_the_share_that_gains_with_ties_for_half():
    found = only(study(rows(TEN)))
    assert (found.gained, found.lost, found.tied) == (8, 1, 1)
    assert found.probability_of_improvement == pytest.approx(0.85)


def test_seeds_are_averaged_inside_a_unit_and_are_no_units():
    summary = study(*(rows(np.array(TEN) + 2 * seed, seed=seed) for seed in range(3)))
    found = only(summary)
    assert found.n == 10 and found.gains.tolist() == pytest.approx([g + 2 for g in TEN])
    assert found.p == only(study(rows(np.array(TEN) + 2))).p
    assert found.n_seeds == 3 and found.seed_sd == pytest.approx(np.std([0, 2, 4], ddof=1))
    assert np.isnan(only(study(rows(TEN))).seed_sd)


def test_sd_between_seeds_is_over_units_that_have_them_all():
    summary = study(rows([1, 2, 30], seed=0), rows([2, 3], seed=1))
    assert only(summary).seed_sd == pytest.approx(np.std([1.5, 2.5], ddof=1))


def test_from_scratch_is_compared_at_as_much_data_and_seed_by_seed():
    summary = study(
        *(rows(TEN, share=share, seed=seed) for share in (0.1, 0.5) for seed in (0, 1)),
        *(rows([80 + seed] * 10, mode="scratch", share=0.5, seed=seed, before=None) for seed in (0, 1)),
    )
    found = by(compare(summary, question()))
    assert list(found) == [("base", "tuned, 10 %"), ("base", "tuned, 50 %"), ("scratch", "tuned, 50 %")]
    scratch = found["scratch", "tuned, 50 %"]
    assert scratch.gains.tolist() == pytest.approx([90 + g - 80.5 for g in TEN])
    assert scratch.n_seeds == 2 and scratch.seed_sd == pytest.approx(np.std([0, 1], ddof=1))


def test_a_seed_that_one_side_lacks_is_no_seed_of_a_comparison():
    tuned = [rows(np.array(TEN) + seed, seed=seed) for seed in (0, 1, 2)]
    scratch = [rows([80] * 10, mode="scratch", seed=seed, before=None) for seed in (0, 1)]
    found = by(compare(study(*tuned, *scratch), question()))["scratch", "tuned, 10 %"]
    assert found.n_seeds == 2 and found.seed_sd == pytest.approx(np.std([0, 1], ddof=1))


def test_from_scratch_is_matched_in_what_it_is_swept_over_and_in_nothing_else():
    parts = [rows([90] * 3, mode="scratch", before=None, model=model, lr=1.0) for model in ("small", "large")]
    parts += [rows([1, 2, 3], model=model, lr=lr) for model in ("small", "large") for lr in (0.1, 0.2)]
    found = compare(study(*parts), question(settings=("mode", "model", "lr")))
    pairs = [(one.setting["model"], one.setting["lr"]) for one in found if one.kind == "scratch"]
    assert pairs == [("small", 0.1), ("small", 0.2), ("large", 0.1), ("large", 0.2)]


def test_a_base_model_that_is_measured_alone_is_no_comparison():
    summary = study(rows([0] * 8, mode="base_only", share=None), rows([1] * 8))
    assert [one.label for one in compare(summary, question())] == ["tuned, 10 %"]
    assert compare(study(rows([0] * 8, mode="base_only")), question()) == []


def test_less_is_better_where_the_measure_says_so():
    found = only(study(rows([-0.2] * 7, before=4.0, scale=1)), question(LOSS))
    assert (
        found.before == 4.0 and found.after == pytest.approx(3.8) and found.gains.tolist() == pytest.approx([0.2] * 7)
    )
    assert found.helps and found.probability_of_improvement == 1


def test_a_column_that_no_experiment_has_is_no_comparison():
    asked = question(rivals=(("the teacher", "teacher"),))
    assert compare(study(rows(TEN)).drop(columns="before"), asked) == []


def test_other_columns_are_rivals_where_the_question_names_them():
    summary = study(rows(TEN)).assign(teacher=0.95)
    found = by(compare(summary, question(rivals=(("the teacher", "teacher"),))))
    assert found["rival", "tuned, 10 %"].gains.tolist() == pytest.approx([g - 5 for g in TEN])


@pytest.mark.parametrize(
    "gains", [[], [1.0], [0.0], [1.0, -1.0], [0.0, 0.0], [np.nan], [np.nan, 1.0], [np.inf, 1.0, 2.0]]
)
def test_little_is_said_of_few(gains):
    for one in compare(study(rows(gains)), question()):
        assert one.n == np.isfinite(gains).sum() and one.n + one.left_out <= len(gains)
        assert not one.can_tell and np.isnan([one.p, one.low, one.high]).all() and not one.helps and not one.harms


def test_a_result_that_is_not_finite_leaves_its_unit_out_and_is_counted():
    found = only(study(rows([*TEN, np.nan, np.inf])))
    assert (found.n, found.left_out) == (10, 2) and found.mean == pytest.approx(np.mean(TEN))


def test_no_gain_anywhere_is_no_gain():
    found = only(study(rows([0.0] * 8)))
    assert (found.gained, found.lost, found.tied, found.p, found.low, found.high) == (0, 0, 8, 1.0, 0.0, 0.0)
    assert found.probability_of_improvement == 0.5 and not found.helps and not found.harms


def test_equal_results_are_ties_however_they_are_added_up():
    thirds = study(*(rows([0.0] * 6, seed=seed, before=0.1 + 0.2 * seed) for seed in range(3)))
    moved = thirds.assign(after=[before + 1e-16 for before in thirds["before"]])
    assert only(moved.sample(frac=1, random_state=0)).tied == 6


def test_what_stands_beside_a_comparison_changes_neither_its_interval_nor_its_p():
    for gains in (TEN, np.random.default_rng(3).normal(0, 1, 25)):
        alone = only(study(rows(gains)))
        others = [rows(np.random.default_rng(k).normal(0, 1, len(gains)), share=0.2 + k / 100) for k in range(5)]
        first = compare(study(rows(gains), *others), question())[0]
        assert (first.low, first.high, first.p) == pytest.approx((alone.low, alone.high, alone.p), rel=1e-12)


def test_units_may_have_any_name():
    names = ["<script>", "a,b", 'q"', "ü", "", " ", "1"]
    summary = study(rows(range(7))).assign(person=names)
    assert only(summary).units.index.tolist() == names


def test_a_table_from_a_file_gives_what_the_table_gives(tmp_path):
    summary = study(rows(TEN), rows(TEN, mode="scratch", before=None))
    summary.to_csv(tmp_path / "summary.csv", index=False)
    read = pd.read_csv(tmp_path / "summary.csv")
    pairs = zip(compare(summary, question()), compare(read, question()), strict=True)
    assert all(a.p == b.p and a.low == pytest.approx(b.low) and a.label == b.label for a, b in pairs)
