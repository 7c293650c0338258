"""Real studies through the real Snakemake, on tiny data: what is trained, what is shared, what is not trained again."""

import json
import os
import re
import shutil

import pandas as pd
import pytest
import torch
from conftest import PEOPLE, ROOT, Project, jobs_run, write_people

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("workflow")]

STUDY = {
    "data": {"path": "data/tiny"},
    "participants": list(PEOPLE),
    "base": {"model": "test", "max_epochs": 2, "lr": 0.01},
    "finetune": {"mode": ["base_only", "target_only_fine_tuning"], "target_data_pct": [0.5]},
    "baselines": ["svc"],
}


PAPERS = {"answer.txt", "summary.parquet", "comparisons.csv", "gains.csv", "tables.tex", "values.tex", "methods.txt"}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Project:
    """A project in which the tiny study has run."""
    folder = tmp_path_factory.mktemp("done") / "project"
    folder.mkdir()
    project = Project(folder)
    write_people(project / "data/tiny")
    project.study("tiny", STUDY)
    run = project.snakemake("--configfile", "tiny.yaml")
    assert jobs_run(run.stderr) == {
        "train_base": 3,
        "train_finetune": 6,
        "measure_baseline": 3,
        "summarise": 1,
        "report": 1,
    }
    assert (
        "left\n" in run.stderr
        and "Personalised" in run.stdout
        and "\n100% of all jobs, trainings: 9 done in " in run.stderr
    )
    assert len([*run.stderr.splitlines(), *run.stdout.splitlines()]) <= 60
    told = [line.partition(" ")[0] for line in run.stderr.splitlines()[1:]]  # below Snakemake's word on profiles
    assert told[:3] == ["tiny:", "0", "to"] and all(word in ("", "100%") for word in told[3:])
    log, page = run.stdout.splitlines()[-2:]
    assert log.startswith("log: .snakemake/log/") and page == "page: results/tiny/report.html"
    assert jobs_begun(project) == 9
    return project


def trained(project: Project) -> int:
    """How many trainings really ran: each leaves one line in the log of its job."""
    logs = list((project / "logs").rglob("*.log"))
    return sum("trained " in log.read_text() for log in logs)


def rerun(project: Project, study="tiny.yaml", *flags) -> dict[str, int]:
    run = project.snakemake(*flags, "--configfile", study)
    return jobs_run(run.stderr + run.stdout)


def test_a_run_leaves_exactly_these_files(done):
    experiment = {"best_model.pt", "losses.json", "config.json", "metrics.json"}
    folders = list(done.folder.glob("experiments/*/*"))
    assert len(folders) == 6 and all({f.name for f in folder.iterdir()} == experiment for folder in folders)
    bases = sorted(f.name for f in done.folder.glob("base_models/*"))
    assert len(bases) == 6 and sum(name.endswith("_metadata.json") for name in bases) == 3
    stored = [metadata.parent for metadata in done.folder.glob(".rootstock/store/*/metadata.json")]
    assert len(list(done.folder.glob(".rootstock/store/users/*.json"))) == len(list(done.folder.glob("results/*")))
    contents = sorted(" ".join(sorted(f.name for f in s.iterdir())) for s in stored)
    assert (
        contents == ["metadata.json model.pt"] * 6 + ["metadata.json model.pt state.pt"] * 3
    )  # a base may be continued
    assert {f.name for f in done.folder.glob("results/tiny/*")} == {
        "summary.csv",
        "table.txt",
        "figure.svg",
        "report.html",
        "figures",
        "tables",
        *PAPERS,
        "baselines",
        "run_log.json",
    }


def test_the_page_has_time_and_memory_of_each_stage(done):
    costs = pd.read_csv(done / "results/tiny/tables/costs.csv").set_index("stage")
    assert set(costs.index) == {"base models", "fine-tunes", "measured bases"}
    assert costs["memory MB, most"].between(50, 5000).all() and (costs["job seconds, total"] > 0).all()
    assert "GPU memory MB, most" not in costs and "memory MB, total" not in costs


def test_a_second_run_starts_no_job_and_shows_the_answer_again(done):
    second = done.snakemake("--configfile", "tiny.yaml")
    assert jobs_run(second.stderr + second.stdout) == {} and "Nothing to be done" in second.stderr
    table, sentences = ((done / "results/tiny" / name).read_text() for name in ("table.txt", "answer.txt"))
    assert f"{table}\n{sentences}\nresults: " in second.stdout
    assert (
        "results: results/tiny/: summary.csv, table.txt, figure.svg\nmodels: base_models/, experiments/\n"
        "page: results/tiny/report.html\n" in second.stdout
    )
    assert "Personalised" not in done.snakemake("-n", "--configfile", "tiny.yaml").stdout


def test_a_deleted_experiment_comes_back_from_the_store(done):
    before = trained(done)
    folder = next(done.folder.glob("experiments/target_only*/fold1_bob"))
    metrics = (folder / "metrics.json").read_text()
    shutil.rmtree(folder)
    assert rerun(done) == {"train_finetune": 1, "summarise": 1, "report": 1}
    assert (folder / "metrics.json").read_text() == metrics
    assert trained(done) == before - 1  # its new log says that there was nothing to train


def test_deleted_bases_are_not_missed_until_they_are_needed_and_then_not_retrained(done):
    models = [f"base_models/{p.name}" for p in done.folder.glob("base_models/*.pt")]
    shutil.rmtree(done / "base_models")
    assert rerun(done) == {}
    shutil.rmtree(next(done.folder.glob("experiments/target_only*/fold1_bob")))
    assert rerun(done)["train_base"] == 1
    (base,) = done.folder.glob("base_models/*.pt")
    assert "nothing to train" in (done / f"logs/base/{base.stem}.log").read_text()
    assert rerun(done, "tiny.yaml", *models) == {"train_base": 2}  # a base by name: handed back too
    assert "trained " not in "".join(log.read_text() for log in (done / "logs/base").glob("*.log"))
    shutil.rmtree(done / "base_models")
    assert rerun(done, "tiny.yaml", "bases") == {"train_base": 3}  # all of them
    rerun(done)
    assert rerun(done) == {}


def test_one_more_fraction_trains_only_its_own_experiments(done):
    done.study("more", STUDY | {"finetune": STUDY["finetune"] | {"target_data_pct": [0.5, 1.0]}, "baselines": []})
    assert rerun(done, "more.yaml") == {"train_finetune": 3, "summarise": 1, "report": 1}


def test_a_smaller_grid_keeps_the_tables_and_the_models_of_the_larger(done):
    larger = STUDY | {"baselines": [], "finetune": STUDY["finetune"] | {"target_data_pct": [0.5, 0.75]}}
    for study in (larger, STUDY | {"baselines": []}):
        done.study("shrunk", study)
        rerun(done, "shrunk.yaml")
    (older,) = done.folder.glob("results/shrunk/older_*")
    kept = {file.name for file in older.iterdir()}
    assert len(pd.read_csv(older / "summary.csv")) == 9 and {"figure.svg", "report.html", "figures"} <= kept
    assert len(pd.read_csv(done / "results/shrunk/summary.csv")) == 6
    assert "0 to free" in done.script("base_models", "gc", "--configfile", "tiny.yaml").stdout


def test_newer_files_comments_and_other_studies_in_between_retrain_nothing(done):
    for file in [*done.folder.glob("base_models/*"), *done.folder.glob("data/tiny/*"), done / "tiny.yaml"]:
        os.utime(file)
    (done / "tiny.yaml").write_text("# a comment\n" + (done / "tiny.yaml").read_text())
    done.study("other", STUDY | {"base": STUDY["base"] | {"lr": 0.02}, "folds": [0], "baselines": []})
    rerun(done, "other.yaml")
    assert rerun(done) == {}


def test_another_study_shares_the_bases(done):
    done.study("second", STUDY | {"finetune": {"mode": "last_layer_only"}, "baselines": []})
    assert "train_base" not in rerun(done, "second.yaml")


def test_another_project_with_the_same_store_trains_no_base(done, project):
    write_people(project / "data/tiny")
    project.study("tiny", STUDY | {"store": str(done / ".rootstock/store"), "baselines": []})
    rerun(project)
    assert trained(project) == 0 and len(list(project.folder.glob("experiments/*/*/metrics.json"))) == 6


def test_a_changed_setting_retrains(done):
    done.study("tiny_changed", STUDY | {"base": STUDY["base"] | {"max_epochs": 1}, "folds": [0], "baselines": []})
    assert rerun(done, "tiny_changed.yaml")["train_base"] == 1


def test_changed_run_settings_retrain_nothing(done):
    done.study("tiny", STUDY | {"run": {"device": "cpu"}})
    assert rerun(done).get("train_base", 0) + rerun(done).get("train_finetune", 0) == 0


def test_until_train_base_trains_only_bases(project, people):
    project.study("tiny", STUDY)
    assert rerun(project, "tiny.yaml", "--until", "train_base") == {"train_base": 3}
    assert not (project / "experiments").exists()


def test_the_summary_has_its_columns_and_its_numbers(done):
    summary = pd.read_csv(done / "results/tiny/summary.csv")
    wanted = (
        "mode fold target target_data_pct base_hash n_target_train base_test_loss base_test_accuracy base_test_f1 "
        "base_all_accuracy test_loss test_accuracy test_f1 epochs seconds path"
    )
    assert set(wanted.split()) <= set(summary.columns) and len(summary) == 6
    for row in summary.itertuples():
        metrics = json.loads((done / f"{row.path}/metrics.json").read_text())
        assert metrics["metrics"]["test"]["accuracy"] == row.test_accuracy
    tuned = summary[summary["mode"] == "target_only_fine_tuning"]
    assert (tuned.n_target_train == 12).all() and set(tuned.target) == set(PEOPLE)


def test_same_spec_same_weights_bit_for_bit(done, project):
    """Another project, another folder of equal data, another day: every model file is byte for byte the same."""
    write_people(project / "data/tiny")
    augmented = {"use_augmentation": True, "dropout": 0.3, "mixup_alpha": 0.3, "schedule": "one_cycle", "max_epochs": 2}
    for place in (done, project):
        modes = {"mode": ["full_fine_tuning", "target_only"]}
        place.study("exact", STUDY | {"folds": [0], "base": augmented, "finetune": modes, "baselines": []})
        rerun(place, "exact.yaml")
    names = {metadata.parent.name for metadata in project.folder.glob(".rootstock/store/*/metadata.json")}
    assert len(names) == 3
    for name in names:
        one, other = (place / f".rootstock/store/{name}/model.pt" for place in (done, project))
        assert one.read_bytes() == other.read_bytes(), name


def test_all_modes_run_and_differ_as_they_should(project):
    write_people(project / "data/tiny", binary=True, samples=48)
    modes = ["full_fine_tuning", "target_only_fine_tuning", "last_layer_only", "target_only", "base_only", "normalise"]
    study = STUDY | {"base": {"model": "medium", "max_epochs": 1, "pos_weight": 2.0}, "folds": [0], "baselines": []}
    project.study("modes", study | {"finetune": {"mode": modes, "max_epochs": 2, "pos_weight": 3.0}})
    rerun(project, "modes.yaml")
    base = torch.load(next(project.folder.glob("base_models/*.pt")), weights_only=True)["model"]
    summary = pd.read_csv(project / "results/modes/summary.csv")
    assert summary["base_test_loss"].nunique() == 1  # of one base on one person, whatever is made of it
    changed = {}
    for folder in project.folder.glob("experiments/*/*"):
        state = base | torch.load(folder / "best_model.pt", weights_only=True)["model"]  # some hold only what changed
        mode = json.loads((folder / "config.json").read_text())["spec"]["mode"]
        changed[mode] = {name for name in base if not torch.equal(base[name], state[name])}
    assert set(changed) == set(modes)
    assert changed["base_only"] == set()
    assert changed["last_layer_only"] == {"network.classifier.weight", "network.classifier.bias"}
    assert {"mean", "network.stem.1.running_var"} < changed["normalise"] and not any(
        "weight" in n for n in changed["normalise"]
    )
    assert "mean" in changed["target_only"] and "mean" not in changed["full_fine_tuning"]
    assert not any("running" in name for name in changed["full_fine_tuning"])  # BatchNorm frozen
    assert "network.stem.0.weight" in changed["target_only_fine_tuning"]


def test_a_failed_job_fails_the_run_and_leaves_the_others(project, people):
    project.study("tiny", STUDY)
    project.snakemake("-n", "--configfile", "tiny.yaml")
    x, y = torch.load(people / "cleo_val.pt", weights_only=True)
    torch.save((x * float("nan"), y), people / "cleo_val.pt")
    run = project.snakemake("--configfile", "tiny.yaml", check=False)
    assert run.returncode == 1 and "X holds NaN" in run.stderr
    assert len(list(project.folder.glob("base_models/*.pt"))) == 1  # the one base that needs no cleo
    assert not list(project.folder.glob("experiments/*/*cleo/metrics.json"))
    assert run.stderr.count("failed: train_base") == 2 and "train_base.py" not in run.stderr  # no shell command
    (whole,) = [log for log in project.folder.glob(".snakemake/log/*") if "train_base.py" in log.read_text()]
    assert f"log: {whole.relative_to(project.folder)}\n" in run.stdout and "Mend that and run again" in run.stderr

    log = json.loads((project / "results/tiny/run_log.json").read_text())
    failed = [job for job in log["results"] if not job["success"]]
    assert log["failed_jobs"] == len(failed) and log["successful_jobs"] == log["total_jobs"] - len(failed)
    assert all(j["returncode"] == 1 and "X holds NaN" in j["stderr"] for j in failed)
    told = project.script("status", "--configfile", "tiny.yaml").stdout
    assert "1 done, 4 failed, 4 not begun of 9; no run is under way" in told and told.count("X holds NaN") == 4
    base = next(job["job_id"] for job in failed if job["phase"] == "base")
    assert "X holds NaN" in project.script("status", "--configfile", "tiny.yaml", "--follow", base).stdout
    assert run.stdout.startswith(
        "partial: 0 of 6 experiments are there. Missing:\n  fold0_ann, fold1_bob, fold2_cleo, "
    )
    assert not (project / "results/tiny/partial/table.txt").exists()


def test_what_is_there_after_a_failure_has_its_tables_until_there_are_whole_ones(project, people):
    project.study("tiny", STUDY | {"finetune": {"mode": "target_only", "max_epochs": 1}, "baselines": []})
    project.snakemake("-n", "--configfile", "tiny.yaml")
    whole = (people / "ann_test.pt").read_bytes()
    x, y = torch.load(people / "ann_test.pt", weights_only=True)
    torch.save((x * float("nan"), y), people / "ann_test.pt")
    run = project.snakemake("--configfile", "tiny.yaml", check=False)
    partial = project / "results/tiny/partial"
    assert run.returncode == 1 and not (project / "results/tiny/summary.csv").exists()
    files = {"summary.csv", "table.txt", "figure.svg", "missing.csv", "report.html", "figures", "tables", *PAPERS}
    assert {file.name for file in partial.iterdir()} == files
    assert "partial: 2 of 3 experiments" in (partial / "report.html").read_text()
    assert set(pd.read_csv(partial / "summary.csv")["target"]) == {"bob", "cleo"}
    missing = pd.read_csv(partial / "missing.csv")
    assert set(missing["who"]) == {"fold0_ann"} and missing["why"].str.contains("X holds NaN").all()
    table = (partial / "table.txt").read_text()
    assert table.startswith(
        "partial: 2 of 3 experiments are there. Missing:\n  fold0_ann: data/tiny/ann_test.pt: X holds NaN"
    )
    assert table in run.stdout and "results/tiny/partial/: summary.csv" in run.stdout
    assert run.stdout.endswith("page: results/tiny/partial/report.html\n")
    (people / "ann_test.pt").write_bytes(whole)
    project.snakemake("--configfile", "tiny.yaml")
    assert not partial.exists() and len(pd.read_csv(project / "results/tiny/summary.csv")) == 3


def test_a_bare_job_list_is_a_study(project, people):
    jobs = [
        {"fold": f, "mode": m, "data_path": "data/tiny", "window_size": 32, "participants": PEOPLE, "max_epochs": 1}
        for f in (0, 1)
        for m in ("target_only_fine_tuning", "last_layer_only")
    ]
    (project / "my jobs.json").write_text(json.dumps(jobs))
    run = project.snakemake("--config", "jobs=my jobs.json")
    assert jobs_run(run.stderr + run.stdout)["train_base"] == 2
    assert (project / "results/my-jobs/summary.csv").exists()


def test_a_models_own_class_is_trained_and_its_source_is_its_identity(project, people):
    source = (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, in_channels, n_outputs, width):\n"
        "        super().__init__()\n"
        "        self.body = nn.Conv1d(in_channels, width, 5)\n"
        "        self.head = nn.Linear(width, n_outputs)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.body(x).relu().mean(2))\n"
    )
    (project / "my_nets.py").write_text(source)
    own = {"models": {"mine": {"class": "my_nets:Net", "width": 4}}, "base": {"model": "mine", "max_epochs": 1}}
    project.study("own", STUDY | own | {"folds": [0], "finetune": {"mode": "last_layer_only"}, "baselines": []})
    rerun(project, "own.yaml")
    (project / "my_nets.py").write_text(source + "# a comment\n")
    assert rerun(project, "own.yaml") == {}
    (project / "my_nets.py").write_text(source.replace("relu", "tanh"))
    told = "note: my_nets.py changed since this study last ran here; 2 trainings are new for that"
    assert told in project.snakemake("--configfile", "own.yaml", "-n").stderr
    assert told in project.script("generate_jobs", "--check", "--configfile", "own.yaml").stdout
    assert rerun(project, "own.yaml")["train_base"] == 1
    assert "changed since" not in project.snakemake("--configfile", "own.yaml", "-n").stderr


def test_a_changed_network_is_told_and_trained_anew_when_asked_and_only_then(project, people):
    (project / "workflow").unlink()
    shutil.copytree(ROOT / "workflow", project / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    other = STUDY | {"folds": [0], "baselines": [], "base": {"model": "medium", "max_epochs": 1}}
    study = {**STUDY, "folds": [0], "baselines": [], "base": [STUDY["base"], other["base"]]}
    project.study("tiny", study)
    rerun(project)
    models = project / "workflow/scripts/rootstock/tasks/activity/models.py"
    models.write_text(models.read_text().replace(".add_(1e-5).rsqrt_()", ".add_(1e-3).rsqrt_()"))
    weights = {file: file.read_bytes() for file in project.folder.glob(".rootstock/store/*/model.pt")}

    run = project.snakemake("--configfile", "tiny.yaml")
    assert jobs_run(run.stderr) == {} and "note: 3 trained models made by other code" in run.stdout  # beside the table
    assert "3 trained models" in project.script("generate_jobs", "--configfile", "tiny.yaml").stdout
    (tuned,) = [f for f in project.folder.glob("experiments/target_only*/*") if is_of(f, "ConvBlocks")]
    for script, flags in (("check_checkpoint", [tuned / "best_model.pt"]), ("train_base", by_hand(project))):
        refused = project.script(script, *flags, check=False)
        assert refused.returncode == 1 and "made by other code" in refused.stderr.splitlines()[-1], refused.stderr
    forced = project.snakemake("--configfile", "tiny.yaml", "--forceall", check=False)
    assert forced.returncode == 1 and "models that this run needs were made by other code" in forced.stderr
    assert not jobs_begun(project)
    dry = project.snakemake("--configfile", "tiny.yaml", "--forceall", "-n")
    assert "note: 3 trained models made by other code" in dry.stderr and "models that this run needs" in dry.stderr

    anew = ("--config", "retrain=true")
    run = project.snakemake("--configfile", "tiny.yaml", *anew)
    assert run.stderr.count("3 trained models made by other code") == 1  # jobs do not look
    assert "3 of 6 trainings already in the store; 3 made by other code are trained anew" in run.stderr
    assert "made by other code" not in run.stdout
    done = jobs_run(run.stderr + run.stdout)
    assert (done["train_base"], done["train_finetune"], done["summarise"]) == (1, 2, 1), done
    after = {file: file.read_bytes() for file in project.folder.glob(".rootstock/store/*/model.pt")}
    assert sum(after[file] != weights[file] for file in weights) == 3 and after.keys() == weights.keys()
    assert rerun(project) == {} == rerun(project, "tiny.yaml", *anew)


def jobs_begun(project: Project) -> int:
    """Trainings that the last run began, as Snakemake's log says."""
    last = max(project.folder.glob(".snakemake/log/*"))
    return len(re.findall(r"^(?:local)?rule train_", last.read_text(), re.M))


def is_of(folder, architecture: str) -> bool:
    return json.loads((folder / "config.json").read_text())["base_spec"]["model"]["architecture"] == architecture


def by_hand(project) -> list[str]:
    """The flags of a base that is in the store."""
    specs = (json.loads(file.read_text())["spec_json"] for file in project.folder.glob("base_models/*_metadata.json"))
    return ["--spec", next(spec for spec in specs if "ConvBlocks" in spec), "--data_path", "data/tiny"]


def test_the_drawings_and_reports_of_snakemake_work(done, tmp_path):
    for flags in (["--dag", "dot"], ["--dag", "mermaid-js"], ["--rulegraph", "dot"], ["--rulegraph", "mermaid-js"]):
        assert "train_base" in done.snakemake("--configfile", "tiny.yaml", *flags).stdout
    report = tmp_path / "report.html"
    rerun(done)
    done.snakemake("--configfile", "tiny.yaml", "--report", report)
    shown = report.read_text()
    assert (
        all(f'"{name}"' in shown for name in ("figure.svg", "report.html", "stages.svg"))
        and "What is made from what" in shown
    )


def test_a_study_of_base_models_alone_has_a_table_of_them(done):
    alone = {name: value for name, value in STUDY.items() if name not in ("finetune", "baselines")}
    done.study("alone", alone)
    run = done.snakemake("--configfile", "alone.yaml")
    assert jobs_run(run.stderr + run.stdout) == {"summarise": 1}
    summary = pd.read_csv(done / "results/alone/summary.csv")
    assert len(summary) == 3 and set(summary["steps"]) == {int(summary["steps"][0])}
    for _, row in summary.iterrows():
        metadata = json.loads((done / f"base_models/{row['base_hash']}_metadata.json").read_text())
        assert row["val_loss"] == metadata["history"][metadata["best_epoch"] - 1]["val_loss"]
        assert row["base_hash"][:8] in run.stdout and f"{row['val_loss']:.4g}" in run.stdout
    assert "results: results/alone/: summary.csv" in run.stdout and "page:" not in run.stdout
    assert rerun(done, "alone.yaml") == {}


def test_lint_is_clean(done):
    assert "good condition" in done.snakemake("--lint", "--configfile", "tiny.yaml").stderr


def test_the_snakefile_is_short():
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 40
