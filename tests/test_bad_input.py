"""A user's mistakes: all of them at once, a line each with key, value and fix, exit code 1, nothing written."""

import json

import numpy as np
import pytest
import torch
from conftest import PEOPLE, plan, write_people

from rootstock.commands import cli
from rootstock.study.problems import StudyError

DATA = {"pad": True}


def faults(**study) -> list[str]:
    with pytest.raises(StudyError) as error:
        plan(**study)
    return error.value.lines


@pytest.mark.parametrize(
    ("study", "line"),
    [
        ({"tusk": 1}, "tusk: unknown key; did you mean task?"),
        ({"task": "activty"}, 'task: "activty" unknown; did you mean activity?'),
        ({"study": "../x"}, 'study: "../x" needs a name'),
        ({"study": "a b; rm"}, "study:"),
        ({"base": {"modle": "test"}}, "base.modle: unknown key; did you mean model?"),
        ({"base": {"model": "cnnn"}}, 'base.model: "cnnn" unknown; choose test, medium, pooled'),
        ({"models": {"mine": {"preset": "tset"}}}, 'models.mine.preset: "tset" unknown; did you mean test?'),
        ({"base": {"model": "no.such:Net"}}, 'base.model: "no.such:Net" no module'),
        ({"base": {"model": f"{'x' * 300}:Net"}}, "no module"),
        ({"base": {"model": "rootstock.commands.cli:Nothing"}}, "defines no class"),
        ({"base": {"lr": "fast"}}, 'base.lr: "fast" needs a number'),
        ({"base": {"lr": True}}, "base.lr: true needs a number"),
        ({"base": {"lr": -1}}, "base.lr: -1 needs a number above 0"),
        ({"base": {"lr": float("nan")}}, "base.lr: NaN needs a number"),
        ({"base": {"batch_size": 2.5}}, "base.batch_size: 2.5 needs a whole number"),
        ({"base": {"lr": []}}, "base.lr: [] is an empty sweep"),
        ({"base": "test"}, 'base: "test" needs keys and values'),
        ({"base": {"magnitude_range": [1.2, 0.8]}}, "base.magnitude_range: [1.2, 0.8] needs [low, high]"),
        ({"base": {"n_base_participants": 10}}, "base.n_base_participants: 10 more than there are; at most 9"),
        ({"base": {"n_base_participants": "few"}}, "base.n_base_participants: \"few\" needs all or a whole number"),
        ({"base": {"participants": ["s01", "s02"]}}, "contains s01, the target of fold0_s01"),
        ({"base": {"participants": ["s99"]}}, 'base.participants: "s99" unknown'),
        ({"base": {"parent": {"magnitude_range": [2, 1]}}}, "base.parent.magnitude_range: [2.0, 1.0] needs [low, high]"),
        ({"base": {"pos_weight": 2}}, "base.pos_weight: 2.0 is for binary data"),
        ({"finetune": {"mode": "fine_tuning"}}, 'finetune.mode: "fine_tuning" unknown'),
        ({"finetune": {"target_data_pct": 0}}, "finetune.target_data_pct: 0 needs a number above 0"),
        ({"finetune": {"target_data_pct": [0.5, 1.2]}}, "finetune.target_data_pct: 1.2 needs a number of at most 1"),
        ({"finetune": {"mode": "target_only", "target_batch_pct": 0.5}}, "last_layer_only, not target_only"),
        ({"folds": [10]}, "folds: 10 out of range; 10 participants have folds 0 to 9"),
        ({"folds": [-1]}, "folds: [-1] needs"),
        ({"participants": ["s01", "s01"]}, 'participants: "s01" is listed twice'),
        ({"participants": ["s01", "s1"]}, 'participants: "s1" unknown; did you mean'),
        ({"participants": ["s01", "../s02"]}, "participants:"),
        ({"participants": ["s01", "a;b"]}, "participants:"),
        ({"data": {"path": "no/such/folder"}}, 'data.path: "no/such/folder" no such folder'),
        ({"data": {"split": [0.5, 0.2, 0.2]}}, "data.split: [0.5, 0.2, 0.2] needs three shares that sum to 1"),
        ({"data": {"split": [0.6, 0.2]}}, "data.split: [0.6, 0.2] needs more values"),
        ({"base": {"parent": "test"}}, 'base.parent: "test" needs keys and values'),
        ({"data": {"name": "smartwach"}}, 'data.name: "smartwach" unknown; did you mean smartwatch?'),
        ({"prefix": "{mod}", "finetune": {}}, 'prefix: "{mod}" {mod} unknown; did you mean mode?'),
        ({"prefix": "{", "finetune": {}}, 'prefix: "{" is not a template'),
        ({"prefix": "{mode.__class__}", "finetune": {}}, "prefix:"),
        ({"run": {"device": "gpu; rm -rf"}}, "run.device:"),
        ({"run": {"threads": 0}}, "run.threads: 0 needs a number of at least 1"),
        ({"run": {"shard": True}}, "run.shard: true needs a network of blocks, which task activity does not have; remove it"),
        ({"run": {"activation_checkpointing": True}}, "run.activation_checkpointing: true needs a network of blocks"),
        ({"models": {"m": {"preset": "tset"}}, "base": {"model": "m"}}, 'models.m.preset: "tset" unknown; did you mean test?'),
        ({"models": {"m": {"preset": "test", "chanels": 3}}, "base": {"model": "m"}}, "models.m.chanels: unknown key"),
        ({"models": {"m": {"preset": "test", "dropout": 2}}, "base": {"model": "m"}}, "models.m.dropout: 2 needs"),
        ({"jobs": "no_such.json"}, "jobs: no_such.json: no such file"),
        ({"jobs": [{"fold": 77}]}, "jobs[0].fold: 77 out of range"),
        ({"jobs": [{}]}, "jobs[0].fold: null missing"),
        ({"jobs": [{"fold": 0, "btach_size": 3}]}, "jobs[0].btach_size: unknown key; did you mean batch_size?"),
        ({"jobs": [{"fold": 1.5}]}, "jobs[0].fold: 1.5 out of range"),
        ({"jobs": [{"fold": 0, "prefix": 5}]}, "jobs[0].prefix: 5 needs a name"),
        ({"jobs": [{"fold": 0, "prefix": "a/../b"}]}, 'jobs[0].prefix: "a/../b" needs a name'),
        ({"jobs": [{"fold": 0}], "base": {"lr": [1, 2]}}, "base.lr: [1.0, 2.0] is swept beside jobs"),
        ({"jobs": []}, "jobs: [] holds no job"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_key_value_and_fix(study, line):
    found = faults(**({"base": {}, "data": DATA} | study))
    assert any(line in one for one in found), found
    assert len(found) <= 2 and all("\n" not in one for one in found)


def test_all_faults_are_reported_at_once():
    found = faults(
        data=DATA,
        participants=["s01", "s02", "s03"],
        folds=[7],
        base={"modle": "x", "model": "cnnn", "lr": "fast", "n_base_participants": 5, "max_epochs": []},
        finetune={"mode": ["nope", "target_only"], "target_data_pct": [0, 2], "target_batch_pct": 0.5},
        run={"threads": "many"},
        colour="red",
    )
    keys = ["base.lr", "base.max_epochs", "base.model", "base.modle", "base.n_base_participants", "colour"]
    keys += ["finetune.mode", "finetune.target_batch_pct", "finetune.target_data_pct", "finetune.target_data_pct"]
    assert sorted(line.split(":")[0] for line in found) == sorted([*keys, "folds", "run.threads"])


@pytest.mark.parametrize(
    "elsewhere",
    [{"data": {"domains": ["cels"]}}, {"domains": ["cels"]}, {"data": {"domian": 1}}, {"data": {"vocab_size": 1}}],
    ids=["data", "scope", "key", "domain"],
)
def test_shapes_that_do_not_fit_come_with_faults_of_data_and_scope(elsewhere):
    base = {"lr": -1, "lrr": 1, "d_model": 30, "n_heads": 4}
    finetune = {"mode": "last_layers_only", "trained_layers": 9}
    found = faults(task="language_model", base=base, finetune=finetune, **elsewhere)
    keys = sorted(line.split(":")[0] for line in found)
    (key,) = set(keys) - (expected := {"base.lr", "base.lrr", "base.d_model", "finetune.trained_layers"})
    assert len(keys) == len(expected) + 1 and key.split(".")[0] == next(iter(elsewhere)), found


def test_a_fault_of_the_data_makes_no_other():
    found = faults(data={"name": "smartwach"}, base={"pos_weight": 2}, finetune={"mode": "target_only"}, folds=[3])
    assert len(found) == 1, found


def test_faults_of_the_grid_come_with_faults_of_the_keys():
    found = faults(data=DATA, base={"lr": "fast", "n_base_participants": 12}, finetune={"mode": "nope"}, folds=[0, 12])
    assert len(found) == 4, found


def test_a_misspelt_person_of_a_folder_is_named_beside_other_faults(tmp_path):
    base = {"participants": ["bob", "cloe"], "lr": -1}
    found = faults(data={"path": str(write_people(tmp_path))}, participants=list(PEOPLE), folds=[0], base=base)
    assert 'base.participants: "cloe" unknown; did you mean cleo?' in found and any("base.lr" in line for line in found)


def test_missing_files_are_named_one_by_one(tmp_path):
    folder = write_people(tmp_path / "data")
    (folder / "bob_val.pt").unlink()
    (folder / "cleo_test.pt").unlink()
    found = faults(data={"path": str(folder)}, participants=list(PEOPLE), base={})
    assert len(found) == 2 and "bob_val.pt" in found[0] and "cleo_test.pt" in found[1]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("bad.yaml", "study: x\nbase: {lr: [1,\nfoo", "bad.yaml:3: malformed YAML"),
        ("twice.yaml", "study: x\nbase: {}\nbase: {}\n", "twice.yaml:3: malformed YAML: key 'base' stands twice"),
        ("list.yaml", "- a\n- b\n", "jobs: list.yaml"),
        ("code.yaml", "study: !!python/object/apply:os.system ['touch pwned']\n", "malformed YAML"),
        ("bad.json", '[{"fold": 0},\n {"fold": }]', "bad.json:2: malformed JSON"),
        ("octal.yaml", "base: {max_epochs: 010}\n", "octal.yaml:1: malformed YAML: 010 means another number"),
        ("sixty.yaml", "study: x\nbase: {lr: 1:30}\n", "sixty.yaml:2: malformed YAML: 1:30 means another number"),
        ("minutes.yaml", "base: {lr: 1:30.5}\n", "minutes.yaml:1: malformed YAML: 1:30.5 means another number"),
        ("empty.yaml", "", "is not a study"),
        ("latin.yaml", "study: x # \udce9", "cannot be read as UTF-8"),
    ],
)
def test_malformed_files_are_named_with_their_line(project, name, text, line):
    (project / name).write_bytes(text.encode(errors="surrogateescape"))
    before = project.files()
    done = project.script("generate_jobs", "--configfile", name, check=False)
    if name == "list.yaml":
        assert done.returncode == 1
    else:
        assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr
    assert project.files() == before


def test_the_workflow_stops_at_plan_time_and_writes_nothing(project):
    study = project.study("bad", {"base": {"lr": "fast", "model": "cnnn"}, "folds": [99], "data": DATA})
    before = project.files()
    done = project.snakemake("--configfile", study, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert 'base.lr: "fast"' in done.stderr and "folds: 99" in done.stderr
    assert project.files() == before


def test_train_bases_false_names_the_missing_bases(project, people):
    study = project.study("tiny", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}, "finetune": {}})
    done = project.snakemake("-n", "--configfile", study, "--config", "train_bases=false", check=False)
    assert done.returncode == 1 and done.stderr.count("is not there; train it first") == 3


FLAGS = ("--data_path", "data/tiny", "--participants", *PEOPLE, "--max_epochs", "1", "--threads", "1")


NAN_IN_ONE = torch.zeros(4, 3, 32)
NAN_IN_ONE[2, 1, 7] = float("nan")
BAD_WINDOWS = [
    ((torch.zeros(4, 32), torch.zeros(4)), "X has shape [4, 32]; needs [N, channels, samples]"),
    ((torch.zeros(4, 3, 32).double(), torch.zeros(4)), "X is torch.float64; needs float32"),
    ((torch.full((4, 3, 32), float("nan")), torch.zeros(4)), "X holds NaN"),
    ((torch.zeros(0, 3, 32), torch.zeros(0)), "holds no window"),
    ((torch.zeros(4, 3, 32), torch.zeros(3)), "y has shape [3] beside 4 windows"),
    ((torch.zeros(4, 3, 32), torch.full((4,), 0.5)), "float labels must be 0 or 1"),
    ((torch.zeros(4, 3, 32), torch.zeros(4, dtype=torch.int32)), "y is torch.int32"),
    ((torch.zeros(4, 5, 32), torch.zeros(4, dtype=torch.int64)), "prepare all people alike"),
    ({"x": 1}, "needs a tuple (X, y)"),
    (b"not a torch file", "damaged"),
]
ODD_WINDOWS = [  # only `make check` is asked for these: it reads as jobs do
    (([[0.0]], [0]), "of two tensors, not tuple of list, list; save torch.tensor"),
    ((np.zeros((4, 3, 32)), np.zeros(4)), "holds numpy arrays, which are not loaded; save torch.from_numpy"),
    ((torch.zeros(4, 3, 32).double(), torch.zeros(4)), "needs float32: save X.float()"),
    ((torch.zeros(4, 3, 32), torch.zeros(4) == 0), "y is torch.bool; needs float 0/1 or int64 classes: save y.float()"),
    ((NAN_IN_ONE, torch.zeros(4)), "in 1 of 4 windows, the first is X[2, 1] (window, channel); clean"),
    ((torch.zeros(4, 3, 32), torch.tensor([0, 1, -1, -1])), "y[2] is -1, and 1 more are so: class indices must be 0"),
]


@pytest.mark.parametrize(("content", "reason"), BAD_WINDOWS)
def test_a_bad_data_file_fails_the_job_with_its_reason(project, people, content, reason):
    path = people / "bob_train.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    done = project.script("train_base", "--fold", "0", *FLAGS, check=False)
    assert done.returncode == 1 and reason in done.stderr and "Traceback" not in done.stderr
    assert not list(project.folder.glob("base_models/*")) and not list(project.folder.glob(".rootstock/store/*/m*"))


def test_a_pickle_with_code_is_refused_and_not_run(project, people):
    import pickle

    class Code:
        def __reduce__(self):
            return (open, (str(project / "pwned"), "w"))

    (people / "bob_train.pt").write_bytes(pickle.dumps(Code()))
    done = project.script("train_base", "--fold", "0", *FLAGS, check=False)
    assert done.returncode == 1 and "bob_train.pt" in done.stderr and not (project / "pwned").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "renamed", "architecture", "no metadata"])
def test_a_bad_base_model_fails_the_fine_tune_with_its_reason(project, people, damage):
    base_hash = project.here("train_base", "--fold", "0", *FLAGS).split()[-1]
    model = project / f"base_models/{base_hash}.pt"
    content = model.read_bytes()
    model.unlink()  # it is a hard link: leave the store's own copy alone
    metadata = project / f"base_models/{base_hash}_metadata.json"
    if damage == "truncated":
        model.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        model.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "renamed":
        other = project.here("train_base", "--fold", "1", *FLAGS).split()[-1]
        model.write_bytes((project / f"base_models/{other}.pt").read_bytes())
    elif damage == "architecture":
        changed = torch.load(project / f".rootstock/store/{base_hash}/model.pt", weights_only=True)
        changed["model"].pop("network.classifier.weight")
        torch.save(changed, model)
        recorded = json.loads(metadata.read_text())
        from rootstock.study.identity import sha256_file

        metadata.unlink()
        metadata.write_text(json.dumps(recorded | {"model_sha256": sha256_file(model)}))
    else:
        model.write_bytes(content)
        metadata.unlink()
    mode = ("--mode", "target_only_fine_tuning", "--prefix", "x")
    done = project.script("train_finetune", "--fold", "0", *FLAGS, *mode, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and base_hash in done.stderr, done.stderr
    assert not list(project.folder.glob("experiments/*/*/*"))


def test_a_base_of_other_data_is_refused(project, people):
    base_hash = project.here("train_base", "--fold", "0", *FLAGS).split()[-1]
    write_people(project / "data/other", seed=5)
    flags = ("--data_path", "data/other", "--participants", *PEOPLE, "--max_epochs", "1")
    mode = ("--mode", "full_fine_tuning", "--base_model_hash", base_hash)
    done = project.script("train_finetune", "--fold", "0", *flags, *mode, check=False)
    assert done.returncode == 1 and "other data" in done.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"participants": ["cleo", "bob"]}, "sorted"), ({"jitter_std": 0.1}, "augmentation"), ({"lr": -1}, "lr")],
)
def test_a_spec_by_hand_that_no_plan_would_make_is_refused(project, people, change, reason):
    study = plan(data={"path": str(people)}, participants=list(PEOPLE), folds=[0])
    (base,) = study.bases.values()
    spec = json.dumps(json.loads(base.json) | change)
    done = project.script("train_base", "--spec", spec, "--data_path", "data/tiny", check=False)
    assert done.returncode == 1 and done.stderr.startswith("--spec: not a BaseSpec") and reason in done.stderr
    assert not project.folder.joinpath("base_models").exists()


def test_data_that_changed_since_the_plan_is_refused(project, people):
    spec = next(iter(plan(data={"path": str(people)}, participants=list(PEOPLE), base={}).bases.values())).json
    write_people(people, people=("bob", "cleo"), seed=3)
    done = project.script("train_base", "--spec", spec, "--data_path", "data/tiny", check=False)
    assert done.returncode == 1 and "changed since it was planned" in done.stderr


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--bacth_size", "3"], "--bacth_size: unknown flag; did you mean --batch_size?"),
        (["--fold", "9"], '--fold: "9" out of range'),
        (["--fold", "0", "--lr", "abc"], '--lr: "abc" needs a number'),
        (["--fold", "0", "--device", "gpu"], "run.device:"),
        (["--spec", "{"], "--spec:"),
        (["--spec", '{"task": "chess"}'], "--spec:"),
        (["--spec", '{"task": "activity"}', "--data_path", "x"], "--spec: not a BaseSpec"),
    ],
)
def test_wrong_flags_are_one_line(project, people, flags, line):
    done = project.script("train_base", "--data_path", "data/tiny", *flags, check=False)
    assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_package_of_another_task_that_is_not_there_is_one_line(monkeypatch, capsys):
    def main():
        raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("tokenizers: not installed; .venv/bin/pip install -r requirements-")


def test_a_model_without_another_form_is_not_exported(project, people):
    name = project.here("train_base", "--fold", "0", *FLAGS).split()[-1]
    done = project.script("export_model", "--hash", name, "--output", "out", check=False)
    assert done.returncode == 1 and "is a model of activity, which has no other form" in done.stderr
    assert "Traceback" not in done.stderr and not (project / "out").exists()
