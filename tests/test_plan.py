"""Who shares what: the plan is what saves the trainings."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PEOPLE, ROOT, plan, write_people
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.settings.types import Batch
from tiny import TINY

from rootstock.controller.planning import analysis, content_of_workflow, plan_content
from rootstock.study import parts, paths
from rootstock.study.plan import job_lists
from rootstock.study.problems import StudyError
from rootstock.tasks.registry import TASKS

DATA = {"pad": True}
SEVEN = [f"s{n:02d}" for n in range(1, 8)]


def test_the_last_of_several_batches_makes_the_results():
    """`snakemake --batch all=i/k` cuts what is asked for in the order of its names; the tables need all experiments."""
    planned = plan(participants=["s01", "s02"], baselines=["svc"])
    wanted = [paths.SUMMARY.format(study="s"), *(paths.experiment_done(*key) for key in planned.experiments)]
    wanted += [paths.base_model(name) for name in planned.bases]
    cut = [Batch("all", number, 3).get_batch(wanted) for number in (1, 2, 3)]
    assert sorted(path for part in cut for path in part) == sorted(wanted) and wanted[0] in cut[-1] and all(cut)


def test_a_null_of_a_fine_tune_is_told_where_the_base_has_a_value():
    base = {"gradient_clip": 1.0, "early_stopping_patience": 5, "weight_decay": 0.1}
    null = {
        "gradient_clip": None,
        "pos_weight": None,
        "early_stopping_patience_target": None,
        "mode": "last_layer_only",
    }
    planned = plan(data={"pad": True}, folds=[0], base=base, finetune=null)
    assert [note for note in planned.notes if "null" in note] == [
        "finetune.early_stopping_patience_target: null is as the base has it, 5",
        "finetune.gradient_clip: null is as the base has it, 1.0",
    ]
    assert not plan(data={"pad": True}, folds=[0], base=base, finetune={"mode": "last_layer_only"}).notes


def test_the_grid_of_1008_needs_54_bases():
    found = analysis(plan_content(content_of_workflow([str(ROOT / "config/studies/shared_base_grid.yaml")], None)))
    assert (found["experiments"], found["base_models"], found["folds"]) == (1008, 54, 7)
    assert (found["base_trainings_without_sharing"], found["fine_tunes"]) == (1008, 1008)


@pytest.mark.parametrize("study", ["shared_base_grid", "language_model"])
def test_planning_loads_neither_torch_nor_pandas_nor_numpy(study):
    code = (
        f"import sys; sys.argv = ['generate_jobs.py', '--configfile', 'config/studies/{study}.yaml', '--json']\n"
        "import runpy\n"
        "try: runpy.run_path('workflow/scripts/generate_jobs.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'pandas', 'numpy', 'sklearn', 'matplotlib', 'tokenizers', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {"PYTHONPATH": "workflow/scripts"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_handing_back_a_stored_model_and_preparing_text_load_no_torch():
    modules = "rootstock.job.train, rootstock.store.objects, rootstock.tasks.language_model.prepare"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "workflow/scripts")})
    assert done.returncode == 0


def test_garbage_is_collected_again_once_a_task_is_loaded_or_cannot_be(monkeypatch):
    monkeypatch.setattr(parts, "package_of", lambda task: "rootstock.tasks.nowhere")
    with pytest.raises(ModuleNotFoundError):
        TASKS.find("activity").trainer()
    assert gc.isenabled()


@settings(max_examples=30, deadline=None)
@given(st.permutations(SEVEN), st.integers(1, 6))
def test_bases_depend_on_the_set_of_people_only(order, n):
    """Two orders of the same people share each base whose first n people are the same set."""
    one = plan(data=DATA, participants=SEVEN, base={"n_base_participants": n})
    other = plan(data=DATA, participants=order, base={"n_base_participants": n})
    of = lambda p: {t.spec.participants: t.hash for t in p.bases.values()}  # noqa: E731
    shared = of(one).keys() & of(other).keys()
    assert all(of(one)[people] == of(other)[people] for people in shared)
    assert len(one.bases) == (n + 1 if n < 6 else 7)


def test_asking_in_two_ways_is_one_training():
    by_number = plan(data=DATA, participants=SEVEN, folds=[0], base={"n_base_participants": 6}, finetune={})
    by_all = plan(data=DATA, participants=SEVEN, folds=[0], base={}, finetune={})
    by_list = plan(data=DATA, participants=SEVEN, folds=[0], base={"participants": SEVEN[1:]}, finetune={})
    assert by_number.bases.keys() == by_all.bases.keys() == by_list.bases.keys()
    assert by_number.experiments.keys() == by_all.experiments.keys()


def test_presets_and_their_settings_are_one_identity():
    own = plan(data=DATA, folds=[0], models={"mine": {"preset": "test", "base_channels": 16}}, base={"model": "mine"})
    direct = plan(data=DATA, folds=[0], base={"model": "test", "base_channels": 16})
    assert own.bases.keys() == direct.bases.keys()


def test_settings_that_a_mode_does_not_use_collapse_with_a_note():
    found = plan(data=DATA, folds=[0], base={}, finetune={"mode": "base_only", "target_data_pct": [0.1, 0.5, 1.0]})
    assert len(found.experiments) == 1
    assert any("2 experiments" in note for note in found.notes)


def test_target_only_needs_no_base():
    found = plan(data=DATA, folds=[0], base={}, finetune={"mode": "target_only"})
    assert not found.bases and len(found.experiments) == 1


def test_one_base_for_all_folds_says_that_the_target_was_seen():
    found = plan(data=DATA, base={"participants": "all"}, finetune={})
    assert len(found.bases) == 1 and len(found.experiments) == 10
    assert any("target was seen" in note for note in found.notes)


def test_fine_tunes_inherit_what_they_do_not_give():
    base = {"lr": 0.5, "seed": 3, "early_stopping_patience": 7}
    spec = lambda **f: next(iter(plan(data=DATA, folds=[0], base=base, finetune=f).experiments.values())).spec  # noqa: E731
    assert (spec().lr, spec().seed, spec().early_stopping_patience) == (0.5, 3, 7)
    own = spec(lr=0.1, seed_finetune=4, early_stopping_patience_target=2)
    assert (own.lr, own.seed, own.early_stopping_patience) == (0.1, 4, 2)


STAGES = {"max_epochs": 2, "parent": {"max_epochs": 3, "parent": {"max_epochs": 4}}}


def test_stages_are_planned_where_a_base_is_needed_and_share_a_folder_over_folds():
    assert not plan(data=DATA, folds=[0], base=STAGES, finetune={"mode": "target_only"}).bases
    found = plan(data=DATA, base=STAGES, finetune={"mode": "last_layer_only"}, baselines=["svc"])
    assert len(found.bases) == 30 and len({prefix for prefix, _ in found.experiments}) == 1
    assert len(found.baselines) == 10  # beside the last stages
    report = analysis(found)
    assert report["base_trainings_without_sharing"] == 30 and report["base_compute_saved_pct"] == 0
    both = plan(data=DATA, folds=[0], base={"max_epochs": 2, "parent": [None, {"max_epochs": 3}]}, finetune={})
    assert {e.settings["base_parent"] for e in both.experiments.values()} == {None, '{"max_epochs": 3}'}


def test_budgets_continue_each_other_beside_those_that_cannot():
    schedules = ["constant", "cosine"]
    found = plan(data=DATA, folds=[0], base={"max_epochs": [2, 4, 8], "schedule": schedules}, finetune={})
    continued = {t.spec.max_epochs for t in found.bases.values() if t.continues}
    assert continued == {4, 8} and sum(t.continues is not None for t in found.bases.values()) == 2
    assert any("trained apart" in note for note in found.notes)
    alone = plan(data=DATA, folds=[0], base={"max_epochs": [2, 4, 8]}, finetune={})
    assert analysis(alone)["base_compute_saved_pct"] == round(100 * 6 / 14, 2)  # 8 epochs instead of 14


def test_a_parent_that_saw_the_target_is_said():
    found = plan(data=DATA, folds=[0], base={"parent": {"participants": "all"}}, finetune={})
    assert any("target was seen" in note for note in found.notes)
    (experiment,) = found.experiments.values()
    assert experiment.settings["base_saw_target"] is True


@pytest.mark.parametrize("base", [{"participants": "all"}, {"parent": {"participants": "all"}}])
def test_no_stage_that_trains_on_all_windows_learns_the_target(base):
    """Those windows are the test set."""
    last = {"early_stopping_metric": "last"}
    with pytest.raises(
        StudyError, match=r"base.early_stopping_metric: \"last\" trains on the test set of a target"
    ) as refused:
        plan(data=DATA, base=base | last, finetune={})
    assert len(refused.value.lines) == 1
    plan(data=DATA, folds=[0], base={"participants": "others"} | last, finetune={})


def test_settings_without_effect_are_said():
    found = plan(data=DATA, folds=[0], base={"mixup_alpha": 0.2, "rotation_std": 0}, finetune={})
    assert found.notes == ["base.mixup_alpha: has no effect without use_augmentation: true"]
    found = plan(data=DATA, folds=[0], base={"model": "medium", "base_channels": 8, "dropout": 0.1}, finetune={})
    assert found.notes == ["base.base_channels: has no effect, model medium has no such setting"]


def test_folds_of_a_setting_share_a_folder_and_a_grown_grid_keeps_it():
    small = plan(data=DATA, base={}, finetune={"target_data_pct": [0.1, 0.5]})
    grown = plan(data=DATA, base={"lr": [1e-3, 1e-2]}, finetune={"target_data_pct": [0.1, 0.25, 0.5]})
    assert len({prefix for prefix, _ in small.experiments}) == 2
    assert small.experiments.keys() < grown.experiments.keys()


def test_different_settings_never_share_a_folder():
    found = plan(data=DATA, prefix="same", base={"lr": [1e-3, 1e-2]}, finetune={"target_data_pct": [0.1, 0.5]})
    assert len({prefix for prefix, _ in found.experiments}) == 4


def test_experiments_that_no_column_tells_apart_are_numbered(tmp_path):
    tiny = TINY["language_model"]
    folders = [str(tiny.write(tmp_path / name)) for name in "ab"]
    for folder in folders:
        (Path(folder) / "animals.txt").write_text("\n\n".join(f"{folder} {n}" for n in range(40)))
    found = plan(**tiny.content({"data": {"path": folders}, "base": {"seed": [0, 1]}}))
    assert sorted((e.settings["base_seed"], e.settings["variant"]) for e in found.experiments.values()) == [
        (0, 1), (0, 2), (1, 1), (1, 2)
    ]  # fmt: skip
    one = plan(**tiny.content({"data": {"path": folders[0]}}))
    assert not any("variant" in e.settings for e in one.experiments.values())


def test_batch_sizes_of_one_process_become_global_in_every_stage():
    base = {"batch_size": 4, "parent": {"batch_size": "8", "parent": {"batch_size": 16}}}
    found = plan(data=DATA, folds=[0], base=base, run={"processes": 2, "batch_size_per_gpu": True}, finetune={})
    assert [t.spec.batch_size for t in found.bases.values()] == [32, 16, 8]


def test_a_template_names_folders():
    content = content_of_workflow([str(ROOT / "config/studies/batch_composition.yaml")], None)
    found = plan_content(content)
    assert len(found.experiments) == 15 and len(found.bases) == 3
    assert sorted({prefix.rpartition("_")[0] for prefix, _ in found.experiments})[0] == "batch_comp_pct0.1"


@pytest.mark.parametrize("with_bases", [True, False])
def test_exported_job_lists_read_back_to_the_same_plan(with_bases):
    study = {
        "data": DATA,
        "participants": SEVEN[:3],
        "base": {"n_base_participants": [1, 2], "use_augmentation": [False, True], "lr": 0.01},
        "finetune": {"mode": ["base_only", "full_fine_tuning", "target_only"], "lr": [0.02, 0.03], "seed_finetune": 5},
    }
    found = plan(**study)
    bases, finetunes = job_lists(found)
    again = plan(jobs=bases + finetunes if with_bases else finetunes)
    assert again.experiments.keys() == found.experiments.keys() and again.bases.keys() == found.bases.keys()
    assert {e.hash for e in again.experiments.values()} == {e.hash for e in found.experiments.values()}


def test_a_flat_job_as_its_users_write_it():
    job = {
        "fold": "1", "batch_size": "32", "model": "test", "mode": "target_only_fine_tuning", "target_data_pct": 0.1,
        "lr": "3e-4", "early_stopping_patience": 50, "early_stopping_patience_target": 20, "n_base_participants": "2",
        "participants": SEVEN, "use_augmentation": True, "jitter_std": 0.1, "magnitude_range": [0.9, 1.1], "aug_prob": 0.3,
        "dropout": 0.2, "use_dilation": True, "base_channels": 16, "num_blocks": 5, "use_residual": True,
        "early_stopping_metric": "f1", "seed": 7, "seed_finetune": 8, "prefix": "mine",
        "_gpu": 3, "device": 1, "base_model_hash": "x", "base_experiment_prefix": "y",
    }  # fmt: skip
    assert (
        plan(jobs=[job | {"fold": 1.0}], data=DATA).experiments.keys() == plan(jobs=[job], data=DATA).experiments.keys()
    )
    found = plan(jobs=[job], data=DATA)
    ((prefix, unit),) = found.experiments
    (experiment,), (base,) = found.experiments.values(), found.bases.values()
    assert prefix.startswith("mine_") and unit == "fold1_s02"
    assert (base.spec.batch_size, base.spec.lr, base.spec.participants) == (32, 3e-4, ("s01", "s03"))
    assert (experiment.spec.seed, experiment.spec.early_stopping_patience) == (8, 20)
    assert base.spec.model.settings["num_blocks"] == 5
    assert "ignored" in found.notes[0] and "_gpu" in found.notes[0]


def test_jobs_take_what_they_lack_from_the_study_around_them():
    found = plan(data=DATA, base={"lr": 0.5}, participants=SEVEN, jobs=[{"fold": 0}, {"fold": 0, "lr": 0.1}])
    assert sorted(t.spec.lr for t in found.bases.values()) == [0.1, 0.5]
    assert {e.spec.mode for e in found.experiments.values()} == {"full_fine_tuning"}


def test_a_base_job_trains_a_base_and_nothing_else():
    found = plan(data=DATA, jobs=[{"fold": 0, "_base_model_hash": "abc"}])
    assert len(found.bases) == 1 and not found.experiments
    measured = plan(data=DATA, jobs=[{"fold": 0, "mode": "base_only"}])
    assert len(measured.bases) == 1 and not measured.fine_tunes and len(measured.experiments) == 1


def test_a_study_without_finetune_trains_bases_only():
    found = plan(data=DATA, base={})
    assert len(found.bases) == 10 and not found.experiments


def test_a_folder_is_known_by_its_content(tmp_path):
    one, same = write_people(tmp_path / "one"), write_people(tmp_path / "same")
    other = write_people(tmp_path / "other", seed=1)
    bases = [set(plan(data={"path": str(f)}, participants=list(PEOPLE), base={}).bases) for f in (one, same, other)]
    assert bases[0] == bases[1] and not bases[0] & bases[2]


def test_another_person_in_a_folder_retrains_nobody(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_people(tmp_path / "data")
    ask = lambda: set(plan(data={"path": str(folder)}, participants=list(PEOPLE), base={}).bases)  # noqa: E731
    before = ask()
    write_people(folder, people=("dan",), seed=9)
    assert ask() == before
    write_people(folder, people=("ann",), seed=9)
    assert len(ask() & before) == 1  # only the base without ann


def test_fingerprints_are_remembered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_people(tmp_path / "data")
    plan(data={"path": str(folder)}, base={})
    read = []
    monkeypatch.setattr("rootstock.study.fingerprints.sha256_file", lambda f: read.append(f) or "x")
    plan(data={"path": str(folder)}, base={})
    assert read == []
