"""What a paper takes from a study: the same numbers in every file, names that LaTeX takes, methods with the specs' numbers."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from results_by_hand import question, rows, study

from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.results.answer import chosen
from rootstock.results.comparisons import compare
from rootstock.results.latex import command_name, escaped, values_tex
from rootstock.results.methods import methods_text
from rootstock.results.papers import FILES, as_parquet, write_papers
from rootstock.results.two_studies import Studied, compare_studies
from rootstock.study.parts import explainer_of
from rootstock.study.problems import Refusal

pytestmark = pytest.mark.filterwarnings("error")

GAINS = [2.0, 3.5, 1.0, 4.0, 2.5, 3.0, -0.5, 2.0, 0.0, 5.0]
EVIL = r"a_b & 50% {x} $y$ #1 \n ^~ <script>"


@pytest.fixture(scope="module")
def plan():
    content = content_of_workflow([str(ROOT / "config/studies/quick_test.yaml")], None)
    return plan_content(content | {"finetune": content["finetune"] | {"lr": [0.25, 0.125]}})


@pytest.fixture
def summary():
    parts = [rows(GAINS, model=EVIL), rows([90] * 10, mode="scratch", before=None)]
    return study(*parts, rows(np.array(GAINS) - 3, share=0.5, model=EVIL))


ASKED = question(settings=("mode", "model"))


@pytest.fixture
def files(plan, summary, tmp_path):
    write_papers(tmp_path, plan, summary, ASKED, compare(summary, ASKED), ["The task says 42."])
    return tmp_path


def test_all_files_are_there_and_no_other(files):
    assert sorted(path.name for path in files.iterdir()) == sorted(FILES)


def test_parquet_holds_the_summary(files, summary):
    pd.testing.assert_frame_equal(pd.read_parquet(files / "summary.parquet"), summary)


def test_a_column_of_several_types_is_text_in_parquet(tmp_path):
    mixed = pd.DataFrame({"a": [1, "never", None], "b": [True, None, False], "c": [1.5, None, 2.0]}, dtype=object)
    (tmp_path / "t.parquet").write_bytes(as_parquet(mixed))
    read = pd.read_parquet(tmp_path / "t.parquet")
    assert read["a"].tolist()[:2] == ["1", "never"] and read["a"].isna().tolist() == [False, False, True]
    assert read["b"].tolist() == [True, None, False] and read["c"].dropna().tolist() == [1.5, 2.0]


def test_csvs_hold_the_numbers_of_the_comparisons(files, summary):
    found = compare(summary, ASKED)
    table, gains = pd.read_csv(files / "comparisons.csv"), pd.read_csv(files / "gains.csv")
    for one, (_, row) in zip(found, table.iterrows(), strict=True):
        for name in ("before", "after", "low", "high", "n", "gained", "lost", "p", "p_holm", "smallest_p"):
            assert row[name] == pytest.approx(getattr(one, name)), name
        own = gains[(gains["setting"] == one.label) & (gains["against"] == one.against)]
        assert own["gain"].tolist() == pytest.approx(one.gains.tolist()) and own["person"].tolist() == [
            *one.units.index
        ]
        assert row["gain"] == pytest.approx(own["gain"].mean())
    columns = list(table.columns)
    assert columns.index("gain") < columns.index("low") < columns.index("p")


def test_gains_are_told_as_a_share_of_the_room_too(files):
    gains = pd.read_csv(files / "gains.csv")
    base = gains[gains["against"] == "base model"]
    assert base["share_of_room"].tolist() == pytest.approx((base["gain"] / 10).tolist())
    assert gains[gains["against"] != "base model"]["share_of_room"].isna().all()
    full = study(rows([-1.0], before=1.0))
    [one] = compare(full, ASKED)
    assert one.units["before"].tolist() == [100.0]


def test_latex_has_booktabs_rules_and_escaped_names(files):
    table = (files / "tables.tex").read_text()
    assert all(rule in table for rule in (r"\toprule", r"\midrule", r"\bottomrule")) and "{tabular}" in table
    body = table.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    plain = [
        re.sub(r"\\[&%$#_{}]|\\textbackslash\{\}|\\textasciitilde\{\}|\\\^\{\}|\\ensuremath\{[<>-]\}", "", line)
        for line in body
    ]
    assert len(body) == 3 and all(line.endswith(r"\\") and line.count("&") == 8 for line in plain)
    assert not [line for line in plain if re.search(r"[%$#_{}^~<>]|\\(?!\\$)(?!$)", line.removesuffix(r"\\"))]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs Debian's texlive-latex-recommended")
def test_latex_typesets_the_tables_and_the_values(files):
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\input{values}", r"\begin{document}"]
    lines += [r"\input{tables}", r"gain \quickTestAnswerGain", r"\end{document}"]
    (files / "paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    assert done.returncode == 0 and (files / "paper.pdf").stat().st_size > 10_000, done.stdout[-2000:]


def test_escaping_leaves_one_line_of_text():
    assert escaped("a_b\n50 % <x> \\ {") == r"a\_b 50 \% \ensuremath{<}x\ensuremath{>} \textbackslash{} \{"


def test_commands_are_legal_and_each_is_defined_once(files):
    text = (files / "values.tex").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    names = [re.fullmatch(r"\\newcommand\{\\([A-Za-z]+)\}\{.*\}", line).group(1) for line in lines]
    assert len(set(names)) == len(names) == 4 * 12
    assert "\\newcommand{\\quickTestAnswerGain}{2.2}" in lines and "\\newcommand{\\quickTestAnswerUnits}{10}" in lines


def test_names_that_differ_in_signs_alone_are_two_commands():
    summary = study(
        rows(GAINS, model="a-1"), rows(GAINS, model="a_1"), rows(GAINS, model="模型"), rows(GAINS, model="型")
    )
    found = compare(summary, ASKED)
    text = values_tex(found, ASKED, "模", chosen(found, ASKED))
    names = re.findall(r"\\newcommand\{\\([^}]*)\}", text)
    assert len(set(names)) == len(names) == 5 * 12 and all(name.isascii() and name.isalpha() for name in names)


@pytest.mark.parametrize(
    "given, wanted",
    [
        (("smart_watch", "full, 12.5 %", "Gain"), "smartWatchFullOneTwoFivePercentGain"),
        (("Überprüfung",), "uberprufung"),
        (("模型",), "study"),
        (("2", "b"), "twoB"),
    ],
)
def test_a_command_has_letters_alone(given, wanted):
    assert command_name(*given) == wanted


def test_values_that_cannot_be_told_are_dashes():
    found = compare(study(rows([1.0, -2.0])), ASKED)
    text = values_tex(found, ASKED, "s", chosen(found, ASKED))
    assert r"\newcommand{\sAnswerPHolm}{--}" in text and r"\newcommand{\sAnswerGain}{\ensuremath{-}0.5}" in text


def test_methods_have_the_numbers_of_the_specs_and_of_the_statistics(files):
    text = (files / "methods.txt").read_text()
    assert text.count("\n") == 1
    assert (
        "It trained 3 base models, 18 fine-tunes and 6 models from scratch; 3 experiments measured a base model" in text
    )
    assert "The task says 42." in text and "(n = 10 people)" in text and "95 % BCa bootstrap intervals" in text
    assert "two-sided sign-flip tests, exact, corrected for 3 comparisons by Holm's method" in text


def test_where_a_task_says_nothing_of_its_trainings_methods_tell_what_all_specs_have(plan):
    text = methods_text(plan, None, [], [])
    assert "Base models: AdamW, learning rate 0.001, weight decay 0.01, batch size 64, precision float32" in text
    modes = (
        "full_fine_tuning, target_only_fine_tuning, last_layer_only and target_only: AdamW, learning rate 0.125 or 0.25"
    )
    assert modes in text and "at most 2 epochs, seed 0" in text


def test_methods_of_activity_recognition_have_the_numbers_of_its_specs(plan):
    text = " ".join(explainer_of(plan.study.task.reporter()).methods(plan))
    for part in (
        "windows of 200 samples that start every 100 samples; each recording was split by time, 60/20/20 %",
        "For each of 3 people we fine-tuned base models of 2 people, none of which had seen that person",
        "The network was ConvBlocks (base_channels 8, num_blocks 4,",
        "(50 % of these), with AdamW (learning rate 0.25 or 0.125, schedule constant, weight decay 0.01) for at most 2 epochs",
        "Windows were not augmented. The epoch with the lowest loss on the validation set was kept",
    ):
        assert part in text, part


def test_methods_of_activity_recognition_say_what_was_seen_mixed_and_changed(plan):
    content = json.loads(plan.content) | {
        "base": {
            "model": "medium",
            "participants": "all",
            "use_augmentation": True,
            "rotation_std": 0.3,
            "gradient_clip": 1.5,
        },
        "finetune": {
            "target_batch_pct": [0.25, 0.5],
            "freeze_batch_norm": True,
            "early_stopping_patience_target": 1,
            "max_epochs": 3,
        },
    }
    text = " ".join(explainer_of(plan.study.task.reporter()).methods(plan_content(content)))
    for part in (
        "some of which had seen that person", "which made up 25 or 50 % of a batch", "gradient norm at most 1.5",
        "until 1 epoch had brought nothing better", "BatchNorm kept the base model's statistics", "rotation_std 0.3",
    ):  # fmt: skip
        assert part in text, part


def test_methods_say_of_few_units_that_nothing_is_tested_and_of_seeds_that_they_are_averaged(plan):
    found = compare(study(*(rows(GAINS[:3], seed=seed) for seed in (0, 1))), ASKED)
    text = methods_text(plan, ASKED, found, [])
    assert "With fewer than 6 people no interval and no test is given." in text and "Holm" not in text
    assert "the 2 seeds of a person were averaged first" in text


def test_a_study_that_compares_nothing_has_the_same_files(plan, summary, tmp_path):
    write_papers(tmp_path, plan, summary, None, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert "nothing is compared" in (tmp_path / "tables.tex").read_text() and pd.read_csv(tmp_path / "gains.csv").empty


def test_the_same_results_give_the_same_bytes(files, plan, summary, tmp_path_factory):
    again = tmp_path_factory.mktemp("again")
    write_papers(again, plan, summary, ASKED, compare(summary, ASKED), ["The task says 42."])
    assert all((again / name).read_bytes() == (files / name).read_bytes() for name in FILES)


def studied(name, *parts, **changes):
    return Studied(name, study(*parts), question(**changes))


def test_two_studies_are_compared_in_the_settings_and_units_that_both_have():
    first = studied("one", rows(GAINS), rows(GAINS, share=0.5), settings=("mode",))
    second = studied("two", rows([g + 1 for g in GAINS[:8]]), rows(GAINS, mode="other"), settings=("mode",))
    setting, base = compare_studies(first, second)
    assert (setting.label, setting.against, setting.n, setting.left_out) == ("tuned, 10 %", "one", 8, 2)
    assert setting.gains.tolist() == pytest.approx([1.0] * 8)
    assert (base.label, base.n, base.tied) == ("base model", 10, 10)
    assert setting.n_tested == 2 and setting.p_holm == pytest.approx(2 * 2 / 2**8)


def test_what_one_study_varies_must_be_alike_in_both():
    first = studied("one", rows(GAINS, lr=0.1))
    second = studied("two", rows(GAINS, lr=0.1), rows(GAINS, lr=0.2), settings=("mode", "lr"))
    assert [one.label for one in compare_studies(first, second)] == ["tuned, 10 %, lr 0.1", "base model"]
    without = Studied("one", first.summary.drop(columns="lr"), first.question)
    assert compare_studies(without, second)[0].against == "one: tuned, 10 %"


def test_without_a_setting_in_common_the_answers_are_compared():
    second = studied("two", rows([g + 1 for g in GAINS], share=0.5), rows([0.0] * 10, share=1.0))
    found = compare_studies(studied("one", rows(GAINS)), second)
    assert [(one.label, one.against) for one in found] == [("tuned, 50 %", "one: tuned, 10 %"), ("base model", "one")]


def test_studies_without_a_unit_in_common_are_refused():
    other = studied("two", rows(GAINS))
    other.summary["person"] = "x" + other.summary["person"]
    with pytest.raises(Refusal, match="one, two: no person has results in both"):
        compare_studies(studied("one", rows(GAINS)), other)
