"""What the jobs of a run are told of its plan: their own rows, the same that the process of the run has."""

import dataclasses
import os

import pytest
from conftest import PEOPLE, plan
from tiny import TINY

from rootstock.controller.rows import VARIABLE, keep_rows, kept_rows
from rootstock.study.run import Run

ASKED = {  # by the rules, of each kind
    "bases": ("hash", "json", "data", "expect", "prepared", "parent", "continues", "own_class", "mem_mb"),
    "experiments": ("hash", "json", "data", "expect", "prepared", "base", "mem_mb"),
    "baselines": ("hash", "json", "data", "prepared", "mem_mb"),
    "artefacts": ("json", "need_names", "on_gpu"),
    "exports": ("hash", "data", "published", "mem_mb"),
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working folder of its own, whose environment is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path


def test_a_job_reads_of_its_row_what_the_run_knows(elsewhere):
    smartwatch = plan(participants=["s01", "s02", "s03"], baselines=["svc"], base={"max_epochs": [2, 4]})
    distilled = plan(task="distillation", save_to_artifacts=True)
    for planned in (smartwatch, distilled):
        keep_rows(planned)
        stored = kept_rows()
        assert stored is not None
        for kind, names in ASKED.items():
            for key, known in getattr(planned, kind).items():
                row = getattr(stored, kind)[key]
                for name in names:
                    value = getattr(row, name)
                    assert (tuple(value) if isinstance(value, list) else value) == getattr(known, name), (kind, name)
        assert stored.study_file == planned.study_file and dict(stored.exports) == planned.exports
    assert any(base.continues for base in smartwatch.bases.values()) and smartwatch.baselines and smartwatch.artefacts
    assert distilled.exports


def test_a_job_is_told_a_setting_that_is_null(elsewhere):
    """`checkpoint_seconds: null` is none by time; where it is left out it is every minute."""
    planned = plan(participants=["s01", "s02"], run={"checkpoint_seconds": None, "gpus": 0}, retrain=True)
    keep_rows(planned)
    stored = kept_rows()
    assert stored is not None and stored.study.run == planned.study.run and stored.study.run.checkpoint_seconds is None
    assert Run.model_validate_json(planned.study.run.told) == planned.study.run
    told = {field.name: getattr(stored.study, field.name) for field in dataclasses.fields(stored.study)}
    assert told == {name: getattr(planned.study, name) for name in told}


def test_a_study_keeps_the_rows_of_one_run(elsewhere):
    first = keep_rows(plan(participants=["s01", "s02"]))
    second = keep_rows(plan(participants=["s01", "s02", "s03"]))
    assert os.listdir(first.parent) == [second.name] and os.environ[VARIABLE] == str(second)
    second.unlink()
    assert kept_rows() is None  # and the job plans by itself


def test_a_job_of_a_run_does_not_plan(project, people):
    """Its Snakemake is given another study than its run had, and trains what the run planned."""
    content = TINY["activity"].study
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.setenv(VARIABLE, "")
        planned = plan(**content)
        (base,) = planned.bases
        other = project.study("other", content | {"participants": [*PEOPLE, "nobody"]})
        flags = ("--mode", "remote", "--executor", "local", "--configfile", str(other), "--allowed-rules", "train_base")
        target = ("--target-jobs", f"train_base:hash={base}", "--nocolor", "--force")
        alone = project.snakemake(*flags, *target, check=False)
        assert alone.returncode and "nobody" in alone.stderr
        keep_rows(planned)
        project.snakemake(*flags, *target)
    assert (project / f"base_models/{base}.pt").exists()
