"""The training scripts without Snakemake: flags and specs lead to the same hash as a study."""

import json

from conftest import PEOPLE, plan

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
