"""The answer says what a statistician would of four results, and of which comparison it speaks."""

import numpy as np
import pytest
from results_by_hand import LOSS, question, rows, study

from rootstock.results import words
from rootstock.results.answer import NOTHING, RULE, besides, chosen, number, sentences
from rootstock.results.comparisons import compare
from rootstock.results.labels import phrase_of

pytestmark = pytest.mark.filterwarnings("error")

GAINS = [2.0, 3.5, 1.0, 4.0, 2.5, 3.0, -0.5, 2.0, 0.0, 5.0]


def said(summary, asked=None, is_partial=False):
    asked = asked or question()
    return sentences(compare(summary, asked), asked, is_partial)


def test_a_gain():
    assert said(study(rows(GAINS))) == [
        "Fine-tuning on 10 % of a person's data (tuned) raises accuracy on the test set from 90.0 to 92.2 %: "
        "8 of 10 people gain, 1 loses, 1 stays the same; 95 % interval of the gain 1.2 to 3.2 points.",
        "The gain is unlikely to be chance (p = 0.0078).",
    ]


def test_no_gain_that_is_shown():
    summary = study(
        rows([3.0, -3.0, 1.0, -1.5, 2.0, 0.0, -2.0, 1.0]), rows([-1.0, 1.0, -2.0, 2.0, 0, 0, 0, 0], share=0.5)
    )
    first, second = said(summary)
    assert first.startswith(
        "Fine-tuning on 10 % of a person's data (tuned) is not shown to change accuracy on the test set, "
        "from 90.0 to 90.1 %: 4 of 8 people gain, 3 lose, 1 stays the same; 95 % interval of the gain −"
    )
    assert second == (
        "That is the largest mean gain of 2 settings, chosen on these very results, and may be chance "
        "(p = 1 after Holm's correction for 2 comparisons); no setting shows a gain, none a loss."
    )


def test_a_loss():
    first, second = said(study(rows([-g for g in GAINS]), rows([-g - 1 for g in GAINS], share=0.5)))
    assert first.startswith(
        "Fine-tuning on 10 % of a person's data (tuned) lowers accuracy on the test set from 90.0 to 87.8 %: "
        "1 of 10 people gains, 8 lose, 1 stays the same; 95 % interval of the gain −"
    )
    assert second == (
        "The loss is unlikely to be chance (p = 0.0078 after Holm's correction for 2 comparisons); "
        "it is the best of 2 settings, of which 2 show a loss."
    )


def test_too_few_people():
    assert said(study(rows([2.0, 3.0, 4.0, 2.0, 1.0]), rows([1.0] * 5, share=0.5))) == [
        "Fine-tuning on 10 % of a person's data (tuned) brings accuracy on the test set from 90.0 to 92.4 %: "
        "5 of 5 people gain, none loses.",
        "With 5 people this test cannot reach p < 0.05; at least 6 people are needed. "
        "This is the largest mean gain of 2 settings.",
    ]


def test_one_person():
    assert said(study(rows([-1.5]))) == [
        "Fine-tuning on 10 % of a person's data (tuned) brings accuracy on the test set from 90.0 to 88.5 %: "
        "1.5 points worse on one person.",
        "With one person this test cannot reach p < 0.05; at least 6 people are needed.",
    ]


def test_nothing_changes():
    first, second = said(study(rows([0.0] * 8)))
    assert first == (
        "Fine-tuning on 10 % of a person's data (tuned) leaves accuracy on the test set at 90.0 %: "
        "none of 8 people gains or loses."
    )
    assert second == "There is no gain and no loss to test."


def test_a_loss_function_falls_where_it_is_better():
    first, _ = said(study(rows([-0.4, -0.3, -0.5, -0.2, -0.4, -0.35], before=4.2, scale=1)), question(LOSS))
    assert first.startswith(
        "Fine-tuning on 10 % of a person's data (tuned) lowers loss from 4.200 to 3.842 nats a token: "
        "6 of 6 people gain, none loses; 95 % interval of the gain 0.2"
    )
    worse, _ = said(study(rows([0.4, 0.3, 0.5, 0.2, 0.4, 0.35], before=4.2, scale=1)), question(LOSS))
    assert (
        "raises loss from 4.200 to 4.558 nats a token: 0 of 6 people gain, 6 lose; 95 % interval of the gain −0.4"
        in worse
    )


def test_it_speaks_of_the_smallest_amount_that_is_shown_to_help_and_not_of_the_largest_gain():
    noise = [3.0, -3.0, 1.0, -1.5, 2.0, 0.0, -2.0, 1.0, 0.5, -0.5]
    summary = study(
        rows(np.array(GAINS) + 6, share=1.0), rows(np.array(GAINS) + 1, share=0.25), rows(noise, share=0.1),
        rows(np.array(GAINS) + 3, mode="other", share=0.25),
    )  # fmt: skip
    found = compare(summary, question())
    assert chosen(found, question()).label == "tuned, 25 %"
    assert sentences(found, question())[1].endswith(
        "; 3 of 4 settings show one, and this is the smallest amount of data that does."
    )


def test_where_nothing_is_shown_it_speaks_of_the_largest_gain_and_says_out_of_how_many():
    parts = [rows([1.0 + k, -1.0, 2.0, -2.0, 0.0, 0.5], share=k / 10) for k in range(1, 6)]
    found = compare(study(*parts), question())
    assert chosen(found, question()).label == "tuned, 50 %"
    assert "the largest mean gain of 5 settings, chosen on these very results" in sentences(found, question())[1]


def test_comparisons_too_many_for_so_few_people_are_said_to_be_that():
    parts = [rows([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], share=k / 10) for k in (1, 2, 3)]
    second = said(study(*parts))[1]
    assert second.endswith("; with 6 people and 3 comparisons no p after Holm can be below 0.094.")


def test_units_that_stay_the_same_leave_too_few_for_a_test_and_that_is_said():
    first, second = said(study(rows([0.0] * 5 + [4.0, 5.0, 6.0, 3.0, 2.0])))
    assert (
        "is not shown to change" in first and "5 of 10 people gain, none loses, 5 stay the same; 95 % interval" in first
    )
    assert second == "That may be chance (p = 0.062); with 5 of 10 people who differ no p can be below 0.062."


def test_the_only_one_of_several():
    second = said(study(rows(np.array(GAINS) + 1, share=0.5), rows([0.0] * 10, share=0.1)))[1]
    assert second.endswith("; of 2 settings it is the only one that shows a gain.")


def test_a_partial_study_says_so_and_counts_who_has_no_result():
    first, _ = said(study(rows([*GAINS, np.nan])), is_partial=True)
    assert first.startswith("Of the experiments that are done so far: Fine-tuning on 10 %")
    assert first.endswith("; left out for want of a result: 1 person.")


def test_what_else_the_setting_is_compared_with():
    scratch = rows([80 + k for k in range(10)], mode="scratch", before=None)
    found = compare(study(rows(GAINS), scratch), question())
    [line] = besides(found, question())
    assert line.startswith(
        "Against training from scratch (scratch) (84.5 %) the same setting is 7.8 points better, 95 % "
    )
    assert line.endswith(", unlikely to be chance (p = 0.0039 after Holm's correction for 2 comparisons).")
    few = compare(study(rows(GAINS[:3]), scratch[:3]), question())
    assert besides(few, question())[0].endswith("; 3 people are too few to test that.")


def test_without_a_base_it_speaks_of_the_rival():
    summary = study(rows([1.0, 2.0])).assign(before=np.nan, teacher=0.95)
    asked = question(rivals=(("the teacher", "teacher"),), settings=(), amount=None, treatment="Phase 2")
    first, _ = said(summary.assign(after=[0.9, 0.92]), asked)
    assert first == (
        "Phase 2 reaches 91.0 %, accuracy on the test set, and is 4.0 points worse than the teacher (95.0 %): "
        "0 of 2 people gain, 2 lose."
    )


def test_nothing_to_compare_is_no_answer():
    assert sentences([], question()) == [NOTHING] and besides([], question()) == []
    assert said(study(rows([90.0] * 8, mode="scratch", before=None))) == [NOTHING]


def test_numbers_have_a_minus_sign_and_zero_has_none():
    assert [number(v, 1) for v in (-1.25, -0.04, 0.0, 2)] == ["−1.2", "0.0", "0.0", "2.0"]


def test_every_word_of_the_rule_and_the_page_is_explained():
    assert {"interval", "p", "Holm's correction", "probability of improvement", "sd between seeds"} <= set(words.WORDS)
    assert "Holm" in RULE and all(text.endswith(".") for text in words.WORDS.values())


def test_training_from_scratch_is_not_called_fine_tuning():
    assert phrase_of({"mode": "scratch"}, question()).startswith("Training from scratch")
    assert not phrase_of({"mode": "tuned"}, question()).startswith("Training from scratch")
