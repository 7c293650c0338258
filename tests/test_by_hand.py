"""The training scripts without Snakemake: flags and specs lead to the same hash as a study."""

import json

import pytest
from conftest import PEOPLE, plan
from tiny import TINY

from rootstock.study.problems import Refusal
from rootstock.tasks.reading import read_spec

FLAGS = (
    "--fold", "0", "--device", "cpu", "--batch_size", "16", "--model", "test", "--lr", "0.01", "--max_epochs", "2",
    "--early_stopping_patience", "50", "--n_base_participants", "2", "--data_path", "data/tiny", "--window_size", "32",
    "--participants", *PEOPLE, "--use_augmentation",
)  # fmt: skip


def test_flags_train_the_model_that_a_study_would(project, people):
    done = project.script("train_base", *FLAGS, "--prefix", "test_base")
    base_hash = done.stdout.split()[-1]
    base = {"batch_size": 16, "lr": 0.01, "max_epochs": 2, "early_stopping_patience": 50, "use_augmentation": True}
    study = plan(data={"path": str(people)}, participants=list(PEOPLE), folds=[0], base=base)
    assert list(study.bases) == [base_hash] and (project / f"base_models/{base_hash}.pt").exists()

    mode = ("--mode", "target_only_fine_tuning", "--target_data_pct", "0.1", "--early_stopping_patience_target", "50")
    done = project.script("train_finetune", *FLAGS, "--base_model_hash", base_hash, *mode, "--prefix", "try1")
    (metrics,) = project.folder.glob("experiments/try1_*/fold0_ann/metrics.json")
    assert (
        json.loads(metrics.read_text())["base_hash"] == base_hash
        and f"published {metrics.parent.relative_to(project.folder)}" in done.stdout
    )
    again = project.script("train_finetune", *FLAGS, "--base_model_hash", base_hash, *mode, "--prefix", "try1")
    assert "nothing to train" in again.stdout


def test_a_damaged_published_model_is_handed_out_anew(project, people):
    name = project.here("train_base", *FLAGS).split()[-1]
    model = project / f"base_models/{name}.pt"
    content = model.read_bytes()
    model.unlink()  # a hard link
    middle = len(content) // 2
    model.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    mode = ("--base_model_hash", name, "--mode", "last_layer_only", "--prefix", "x")
    for flags in (("train_finetune", *FLAGS, *mode), ("check_checkpoint", model.relative_to(project.folder))):
        done = project.script(*flags, check=False)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert f"delete base_models/{name}.pt and run again: its store hands it out again" in done.stderr
    model.unlink()
    project.here("train_finetune", *FLAGS, *mode)
    assert model.read_bytes() == content


def test_a_base_of_other_settings_can_be_named_by_its_hash(project, people):
    other = project.here("train_base", *FLAGS, "--seed", "5").split()[-1]
    project.script("train_finetune", *FLAGS, "--base_model_hash", other, "--mode", "last_layer_only", "--prefix", "x")
    (config,) = project.folder.glob("experiments/x_*/fold0_ann/config.json")
    assert json.loads(config.read_text())["base_spec"]["seed"] == 5


def test_a_base_that_does_not_fit_is_refused(project, people):
    everyone = ("--base_participants", "all", "--n_base_participants", "3")
    seen = project.here("train_base", *FLAGS, *everyone).split()[-1]
    mode = ("--mode", "last_layer_only", "--prefix", "x")
    done = project.script("train_finetune", *FLAGS, "--base_model_hash", seen, *mode, check=False)
    assert done.returncode == 1 and "saw the target ann" in done.stderr
    done = project.script("train_finetune", *FLAGS, "--base_model_hash", "0" * 16, *mode, check=False)
    assert done.returncode == 1 and "is not trained here; run train_base.py" in done.stderr
    wide = project.here("train_base", *FLAGS, "--base_channels", "16").split()[-1]
    contradicts = ("--base_model_hash", wide, "--base_channels", "8")
    done = project.script("train_finetune", *FLAGS, *contradicts, *mode, check=False)
    assert done.returncode == 1 and "is of architecture" in done.stderr
    tuned = project.script("train_finetune", *FLAGS, "--base_model_hash", wide, *mode).stdout.split()[-1]
    done = project.script("train_finetune", *FLAGS, "--base_model_hash", hash_in(project, tuned), *mode, check=False)
    assert done.returncode == 1 and "is not a base model" in done.stderr


def hash_in(project, folder: str) -> str:
    return json.loads((project / f"{folder}/metrics.json").read_text())["hash"]


def test_a_spec_file_trains_without_other_flags(project, people):
    study = plan(data={"path": str(people)}, participants=list(PEOPLE), folds=[1], base={"max_epochs": 1})
    (training,) = study.bases.values()
    (project / "spec.json").write_text(training.json)
    done = project.script("train_base", "--spec", "spec.json", "--data_path", "data/tiny", "--output", "out/m.pt")
    assert done.stdout.split()[-1] == training.hash and (project / "out/m_metadata.json").exists()


@pytest.mark.parametrize(
    ("task", "mode", "change", "line"),
    [
        ("activity", "full_fine_tuning", {"lr": None}, "mode full_fine_tuning needs lr"),
        ("activity", "full_fine_tuning", {"base": None}, "mode full_fine_tuning needs base"),
        ("activity", "target_only", {"model": None, "base": "0" * 16}, "mode target_only needs model"),
        ("activity", "target_only", {"base": "0" * 16}, "mode target_only has no base"),
        ("activity", "last_layer_only", {"target_data_pct": None}, "mode last_layer_only needs target_data_pct"),
        ("language_model", "full_fine_tuning", {"max_steps": None, "domain": None}, "needs max_steps"),
        ("language_model", "full_fine_tuning", {"domain": None}, "mode full_fine_tuning needs domain"),
        ("language_model", "last_layers_only", {"trained_layers": None}, "mode last_layers_only needs trained_layers"),
        ("language_model", "cool_down", {"domain": "animals"}, "mode cool_down has no domain"),
        ("distillation", "phase2", {"temperature": None}, "mode phase2 needs temperature"),
        ("distillation", "phase2", {"base": None}, "mode phase2 needs base"),
    ],
)
def test_a_fine_tune_by_hand_has_what_its_mode_needs(tmp_path, monkeypatch, task, mode, change, line):
    monkeypatch.chdir(tmp_path)
    TINY[task].write(tmp_path / "data/tiny")
    own = {"max_steps": 20} if task == "language_model" else {}
    spec = json.loads(
        next(iter(plan(**TINY[task].study | {"finetune": own | {"mode": mode}}).experiments.values())).json
    )
    read_spec(json.dumps(spec), "fine-tune")
    with pytest.raises(Refusal, match=f"^--spec: not a FinetuneSpec: .*{line}") as refusal:
        read_spec(json.dumps(spec | change), "fine-tune")
    assert "\n" not in str(refusal.value)


def test_help_explains_itself(project):
    for script in ("train_base", "train_finetune", "generate_jobs", "prepare_data", "summarise", "measure_baseline"):
        text = project.script(script, "--help").stdout
        assert len(text) > 200 and "Traceback" not in text
    text = project.script("train_finetune", "--help").stdout
    for flag in ("--base_model_hash", "--mode", "--target_data_pct", "--device", "--early_stopping_patience_target"):
        assert flag in text


def test_exported_job_lists_are_studies(project, people):
    project.study(
        "tiny",
        {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}, "finetune": {"mode": ["base_only", "target_only"]}},
    )
    shown = json.loads(
        project.script("generate_jobs", "--configfile", "tiny.yaml", "--json", "--output-dir", "lists").stdout
    )
    again = json.loads(project.script("generate_jobs", "--configfile", "lists/finetune_jobs.json", "--json").stdout)
    for key in ("experiments", "base_models", "base_trainings_without_sharing", "fine_tunes", "folds"):
        assert shown[key] == again[key]
    bases = json.loads((project / "lists/base_training_jobs.json").read_text())
    assert {job["_base_model_hash"] for job in bases} == set(shown["sharing"])


def test_the_store_is_listed_verified_and_forgotten(project, people):
    name = project.here("train_base", *FLAGS).split()[-1]
    listed = project.script("base_models", "list").stdout
    assert name in listed and "1 objects" in listed and "base" in listed
    assert json.loads(project.script("base_models", "show", name[:6]).stdout)["hash"] == name
    assert "all whole" in project.script("base_models", "verify").stdout
    model = project / f".rootstock/store/{name}/model.pt"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.unlink()
    model.write_bytes(bytes(content))
    done = project.script("base_models", "verify", check=False)
    assert done.returncode == 1 and "damaged" in done.stdout
    project.script("base_models", "forget", name)
    assert not model.parent.exists()
    assert "trained " in project.script("train_base", *FLAGS).stdout
    done = project.script("base_models", "show", "ffff", check=False)
    assert done.returncode == 1 and "names 0 objects" in done.stderr
