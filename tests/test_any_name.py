"""Names in any script, with spaces and quotes, simply work; and no file of a user's is passed over in silence."""

import csv
import json
import unicodedata

import pandas as pd
import pytest
from conftest import PEOPLE, plan, ran, write_people
from tiny import TINY, write_texts

from rootstock.controller.missing import missing_of
from rootstock.results.figure import dots_by_row
from rootstock.study import paths
from rootstock.study.problems import StudyError

NAMES = ("$(touch pwned)", "Anna Müller", "a b", "o'Brien {x}", "李雷")  # sorted, as a folder's people are
DECOMPOSED = unicodedata.normalize("NFD", "Anna Müller")


def faults(**study) -> list[str]:
    with pytest.raises(StudyError) as error:
        plan(**study)
    return error.value.lines


def test_people_of_any_name_are_trained_and_shown_under_it(project):
    write_people(project / "data/tiny", NAMES)
    study = {"data": {"path": "data/tiny"}, "base": {"participants": "all", "max_epochs": 1}}
    tuned = {"finetune": {"mode": "full_fine_tuning", "max_epochs": 1}, "baselines": ["extra_trees"]}
    project.snakemake("--configfile", project.study("names", study | tuned))
    with open(project / "results/names/summary.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["target"] for row in rows] == list(NAMES)
    folders = sorted(path.name for path in project.folder.glob("experiments/*/*"))
    assert folders == sorted(path.stem for path in project.folder.glob("logs/finetune/*/*.log"))
    assert len(folders) == len(NAMES) and all(folder.isascii() and " " not in folder for folder in folders)
    assert any(folder.startswith("fold1_Anna-Muller_") for folder in folders) and not (project / "pwned").exists()
    again = project.snakemake("--configfile", "names.yaml")
    assert "Nothing to be done" in again.stderr


def test_what_is_missing_of_people_of_any_name_is_told_with_its_reason(project, capsys, monkeypatch):
    monkeypatch.chdir(project.folder)
    write_people(project / "data/tiny", NAMES)
    study = {"data": {"path": "data/tiny"}, "base": {}, "finetune": {"mode": "target_only"}}
    planned = plan(study="t", **study)
    prefix, unit = next(iter(planned.experiments))
    record = project / f".rootstock/jobs/t/finetune/{prefix}/{unit}.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"started": 1.0, "ended": 2.0, "returncode": 1, "stderr": "X holds NaN"}))
    found = {item.who: item.why for item in missing_of(planned)}
    assert list(found) == [f"fold{fold}_{name}" for fold, name in enumerate(NAMES)]
    assert found.pop(f"fold0_{NAMES[0]}") == "X holds NaN" and set(found.values()) == {"its training is not begun"}
    log = project / f"logs/finetune/{prefix}/{unit}.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\n")
    for job in (f"{prefix}/{unit}", f"experiments/{prefix}/fold0_{NAMES[0]}"):
        status = ran(project, capsys, "status", "--configfile", project.study("t", study), "--follow", job)
        assert status == (0, "epoch 1\n", "")


def test_a_name_that_is_safe_keeps_its_folder_and_others_have_one_each():
    assert paths.unit_folder("fold0_ann.b-c") == "fold0_ann.b-c"
    odd = ("fold0_Müller", "fold0_Mueller ", "fold0_Muller{}", "李雷", "雷李", "../x", "a" * 101)
    found = [paths.unit_folder(name) for name in odd]
    assert len(set(found)) == len(odd) and found == [paths.unit_folder(name) for name in found]


def test_one_person_is_meant_however_the_letters_are_composed(tmp_path):
    write_people(tmp_path / "nfc", ("Anna Müller", "bob"))
    write_people(tmp_path / "nfd", (DECOMPOSED, "bob"))
    planned = [
        plan(data={"path": str(tmp_path / form)}, participants=people, base={}, finetune={})
        for form in ("nfc", "nfd")
        for people in (None, ["Anna Müller", "bob"], [DECOMPOSED, "bob"])
    ]
    assert len({tuple(one.bases) for one in planned}) == 1
    assert all(next(iter(one.experiments.values())).spec.target == "Anna Müller" for one in planned)


def test_files_of_one_person_in_two_spellings_are_both_named(tmp_path):
    write_people(tmp_path, ("Anna Müller", DECOMPOSED, "bob"))
    found = faults(data={"path": str(tmp_path)}, base={})
    assert len(found) == 3 and all("Anna Müller_" in line and f"{DECOMPOSED}_" in line for line in found)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_person_of_whom_a_part_is_missing_is_named(tmp_path, part):
    write_people(tmp_path)
    (tmp_path / f"bob_{part}.pt").unlink()
    (line,) = faults(data={"path": str(tmp_path)}, base={})
    assert f"bob_{part}.pt" in line and "no such file" in line


def test_a_link_to_nothing_is_named(tmp_path):
    write_people(tmp_path)
    for part in ("train", "val", "test"):
        (tmp_path / f"zoe_{part}.pt").symlink_to(tmp_path / "gone")
    assert len(faults(data={"path": str(tmp_path)}, base={})) == 3


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x\x9b2J", "l" * 201, "\udce9", "a\u2028b", " "])
def test_a_file_whose_name_nobody_can_have_is_named(tmp_path, name):
    write_people(tmp_path)
    (tmp_path / f"{name}_train.pt").touch()
    (line,) = faults(data={"path": str(tmp_path)}, base={})
    assert "_train.pt" in line and "rename the file" in line and line.isprintable()


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("zoe.train.pt", "name it zoe_train.pt"),
        ("zoe-val.pt", "name it zoe_val.pt"),
        ("zoe test.pt", "name it zoe_test.pt"),
        ("zoe_Train.PT", "name it zoe_train.pt"),
        ("zoe_validation.pt", "name it zoe_val.pt"),
        ("test_zoe.pt", "name it zoe_test.pt"),
        ("zoe_train.npy", "torch.save it as zoe_train.pt"),
        ("zoe/val.pt", "name it zoe_val.pt"),
    ],
)
def test_a_file_that_looks_like_a_persons_and_is_not_read_is_named(tmp_path, name, fix):
    write_people(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (line,) = faults(data={"path": str(tmp_path)}, base={})
    assert line == f'data.path: "{tmp_path / name}" looks like windows of zoe and is not read; {fix}'
    assert faults(data={"path": str(tmp_path)}, participants=["bob", "zoe"], base={}) == [line]
    plan(data={"path": str(tmp_path)}, participants=list(PEOPLE), base={})


def test_a_misspelt_person_is_told_who_may_be_meant(tmp_path):
    write_people(tmp_path, ("Anna Müller", "bob"))
    (line,) = faults(data={"path": str(tmp_path)}, participants=["Anna Muller", "bob"], base={})
    assert line == 'participants: "Anna Muller" unknown; did you mean Anna Müller?'
    (line,) = faults(data={"path": str(tmp_path)}, participants=["xyz", "bob"], base={})
    assert line == 'participants: "xyz" unknown; choose Anna Müller, bob'


def test_other_files_and_people_who_do_not_take_part_are_left_alone(tmp_path):
    write_people(tmp_path)
    for name in ("notes.txt", "bob_train.npy", "._bob_train.pt", "model.pt", "zoe_val.pt", "x\ny_train.pt"):
        (tmp_path / name).touch()
    study = {"data": {"path": str(tmp_path)}, "base": {}}
    assert len(plan(**study, participants=list(PEOPLE)).bases) == 3
    assert len(faults(**study)) == 3  # two parts of zoe, and a name


@pytest.mark.parametrize("name", ["", "a/b", "..", ".ann", "a\nb", "l" * 201, "\x07"])
def test_a_name_in_a_study_that_no_file_can_have_is_refused(tmp_path, name):
    write_people(tmp_path)
    (line,) = faults(data={"path": str(tmp_path)}, participants=["ann", name], base={})
    assert line.startswith("participants:") and "a name of one line" in line


def test_a_domain_of_any_name_is_trained(project):
    write_texts(project / "data/tiny")
    (project / "data/tiny/animals.txt").rename(project / f"data/tiny/{DECOMPOSED}.txt")
    (project / "data/tiny/plants.txt").rename(project / "data/tiny/植物 $x {y}.txt")
    more = {"domains": ["植物 $x {y}", "Anna Müller"], "base": {"max_steps": 6}, "finetune": {"max_steps": 6}}
    project.publish_here(TINY["language_model"].content(more) | {"study": "t", "export": True})
    found = {
        path.parent.name: json.loads(path.read_text()) for path in project.folder.glob("experiments/*/*/config.json")
    }
    assert {config["spec"]["domain"] for config in found.values()} == set(more["domains"])
    assert all(folder.isascii() for folder in found)


@pytest.mark.parametrize("path", ["more.TXT", "gone.txt", "linked"])
def test_text_that_would_not_be_read_is_named(tmp_path, path):
    write_texts(tmp_path / "texts")
    write_texts(tmp_path / "elsewhere")
    file = tmp_path / "texts" / path
    file.write_text("x") if path.endswith("TXT") else file.symlink_to(
        tmp_path / ("gone" if "." in path else "elsewhere")
    )
    (line,) = faults(task="language_model", data={"path": str(tmp_path / "texts")}, base={})
    assert line.startswith("data.path:") and path in line


@pytest.mark.parametrize("name", ["more.JSONL", "gone.parquet", "empty.jsonl"])
def test_pairs_that_would_not_be_read_are_named(tmp_path, name):
    (tmp_path / "pairs.jsonl").write_text('{"query": "a", "positive": "b"}\n')
    file = tmp_path / name
    file.symlink_to(tmp_path / "nowhere") if "gone" in name else file.write_text("{}" if "more" in name else "")
    (line,) = faults(task="distillation", data={"path": str(tmp_path)}, base={})
    assert line.startswith("data.path:") and name in line


def test_a_name_is_no_formula_of_the_figure(tmp_path):
    figure, elsewhere = tmp_path / "figure.svg", tmp_path / "elsewhere"
    figure.symlink_to(elsewhere)
    dots_by_row([(r"a $\frac$ b", pd.Series([1.0, 2.0]))], "accuracy", figure)
    assert figure.stat().st_size and not elsewhere.exists()  # a link that was there is replaced, not followed
