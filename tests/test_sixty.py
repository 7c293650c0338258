"""Sixty bad inputs and more, of every kind and to every script: each one line that names key or file and value, nothing written.

A row is what a user typed, and what the line must say. Studies are written in JSON, which is YAML.
"""

import json

import pytest
import torch
from conftest import Project, refused, write_people

HASH = "0" * 16
DISTILLATION, LANGUAGE = {"task": "distillation", "data": {}}, {"task": "language_model", "data": {}}
PHASES = {"model": {"teacher": "all-MiniLM-L6-v2"}, "phase2": {"num_negatives": 1}}
BASE = ("--fold", "0", "--data_path", "data/tiny", "--max_epochs", "1")
SPEC = ("--data_path", "data/tiny", "--output", "experiments/x/y", "--spec")

STUDIES = [
    (b"\0study: x", "s.yaml: malformed YAML: unacceptable character"),
    (b"study: x\n\tbase: {}\n", "s.yaml:2: malformed YAML: found character '\\t'"),
    (b"a: 1\n--- \nb: 2\n", "s.yaml:2: malformed YAML: but found another document"),
    (b"base: {<<: 5}\n", "s.yaml:1: malformed YAML: expected a mapping"),
    (b"base: *nowhere\n", "s.yaml:1: malformed YAML: found undefined alias"),
    (b"{? [a]: 1}\n", "s.yaml:1: malformed YAML: a key must be text"),
    (b"5", "s.yaml: is not a study"),
    ({"base": {"lr": {"a": 1}}}, 'base.lr: {"a": 1} needs a number'),
    ({"base": {"batch_size": 1e30}}, "base.batch_size: 1e+30 needs a whole number below 2^63"),
    ({"base": {"seed": 2**64}}, f"base.seed: {2**64} needs a whole number below 2^63"),
    ({"base": {"magnitude_range": "wide"}}, 'base.magnitude_range: "wide" needs a list'),
    ({"base": {"magnitude_range": [0.5, 1, 2]}}, "base.magnitude_range: [0.5, 1, 2] needs at most 2 values"),
    ({"base": {"parent": {"folds": 1}}}, "base.parent.folds: unknown key"),
    ({"base": {"parent": {"parent": {"lr": "x"}}}}, 'base.parent.lr: "x" needs a number'),
    ({"base": [5]}, "base[0]: 5 needs keys and values"),
    ({"finetune": {"mode": []}}, "finetune.mode: [] is an empty sweep"),
    ({"folds": {"a": 1}}, 'folds: {"a": 1} needs all or a list'),
    ({"participants": []}, "participants: [] needs at least 2 values"),
    ({"models": {"m": 5}}, 'models: {"m": 5} needs keys and values'),
    ({"models": {"m": {"class": "os"}}}, "models.m.class: \"os\" no module 'os'"),
    ({"base": {"model": "a:b:c"}}, 'base.model: "a:b:c" '),
    ({"baselines": ["forest"]}, 'baselines: ["forest"] needs extra_trees or svc'),
    ({"prefix": "{}", "finetune": {}}, 'prefix: "{}" {} unknown; choose'),
    ({"prefix": "{mode!x}", "finetune": {}}, 'prefix: "{mode!x}" is not a template'),
    ({"store": ["a"]}, 'store: ["a"] needs one line of text'),
    ({"train_bases": "perhaps"}, 'train_bases: "perhaps" needs true or false'),
    ({"run": {"wait_seconds": float("inf")}}, 'run.wait_seconds: "Infinity" needs a number'),
    ({"data": {"path": "data/tiny/ann_train.pt"}}, 'data.path: "data/tiny/ann_train.pt" no such folder'),
    ({"task": {}}, "task: {} unknown"),
    ({"jobs": [{"fold": 0, "lr": [1, 2]}]}, "jobs[0].lr: [1, 2] needs a number"),
    ({"jobs": [[]]}, "jobs: [] needs the path of a .json list"),
    (DISTILLATION | {"base": {"layers": [0, 0]}}, "base.layers: [0, 0] names a layer twice"),
    (DISTILLATION | {"data": {"ontologies": ["go"]}}, 'data.ontologies: ["go"] needs mondo or'),
    (PHASES | {"phase1": {"batch_size": "many"}}, 'phase1.batch_size: "many" needs a whole number'),
    (PHASES | {"phase1": [1]}, "phase1: [1] needs keys and values"),
    (LANGUAGE | {"data": {"tokenizer": "nowhere.json"}}, 'data.tokenizer: "nowhere.json" is neither'),
    (LANGUAGE | {"base": {"d_model": 6, "n_heads": 2}}, "base.d_model: 6 leaves 3 for each of 2 heads"),
    (LANGUAGE | {"finetune": {"mode": "last_layers_only", "trained_layers": 99}}, "finetune.trained_layers: 99 is more"),
]  # fmt: skip
JOB_LISTS = [
    (b'[{"fold": 0, "fold": 1}]', "s.json: malformed JSON: key 'fold' stands twice"),
    (b"[NaN]", "s.json[0]: NaN is not a job"),
    (b'\xef\xbb\xbf[{"fold": 0}]', "s.json:1: malformed JSON: Unexpected UTF-8 BOM"),
    (b"", "s.json:1: malformed JSON: Expecting value"),
    (b'[{"fold": 1e400}]', "s.json[0].fold: Infinity out of range"),
]
SERVERS = [
    ([], 'hosts.json: needs {"servers": [{"host"'),
    ([5], 'servers[0]: 5 needs {"host"'),
    ([{"gpus": 1}], "servers[0].host: missing; give the host name"),
    ([{"host": "a b", "gpus": 1}], 'servers[0].host: "a b" needs a host name'),
    ([{"host": "a", "gpus": -1}], "servers[0].gpus: -1 needs a number of at least 0"),
    ([{"host": "a", "gpus": 1, "port": 99999}], "servers[0].port: 99999 needs a number of at most 65535"),
    ([{"host": "a", "gpus": 1, "ssh_key": "k" * 300}], "servers[0].ssh_key: "),
    ([{"host": "a", "gpus": 1, "user": "-oProxyCommand=x"}], "servers[0].user: "),
    ([{"host": "a", "gpus": 1}, {"host": "a", "gpus": 2}], 'servers: "a" stands there twice'),
]
FLAGS = [
    ("train_base", ("--fold",), "argument --fold: expected one argument"),
    ("train_base", ("--task", "chess"), '--task: "chess" unknown'),
    ("train_base", (*BASE, "--wait_seconds", "-1"), "run.wait_seconds:"),
    ("train_base", (*BASE, "--keep_checkpoints", "often"), 'run.keep_checkpoints: "often" needs a whole number'),
    ("train_base", (*BASE, "--participants", "ann", "ann"), '--participants: "ann" is listed twice'),
    ("train_finetune", (*BASE, "--mode", "all"), '--mode: "all" unknown'),
    ("train_finetune", ("--data_path", "x", "--spec", '{"task": "activity"}'), "--spec: not a FinetuneSpec"),
    ("train_finetune", (*SPEC, '{"task": 5}'), "--spec: task: 5 unknown"),
    ("train_finetune", (*BASE, "--base_model_hash", HASH), f"--base_model_hash: {HASH} is not trained here"),
    ("base_models", ("explode",), "argument action: invalid choice: 'explode'"),
    ("base_models", ("show",), "show: needs the hash of an object"),
    ("base_models", ("forget", "zz"), "hash: 'zz' names 0 objects"),
    ("base_models", ("gc", "--older-than", "soon"), "--older-than: 'soon' is no duration"),
    ("status", ("--jobs", "nowhere.json"), "nowhere.json: no such file"),
    ("status", ("--configfile", "good.yaml", "--follow", "x"), "--follow: 'x' is no job of this study"),
    ("list_checkpoints", ("--task", "chess"), 'task: "chess" unknown'),
    ("list_checkpoints", ("--store", "text.pt"), "text.pt: holds no model"),
    ("check_checkpoint", (), "the following arguments are required: file"),
    ("check_checkpoint", ("text.pt",), "text.pt: "),
    ("check_checkpoint", ("other.pt",), "other.pt: is not a model of Rootstock"),
    ("check_checkpoint", ("odd.pt",), "odd.pt: is not a model of Rootstock"),
    ("resume_training", ("--max-steps", "x"), "argument --max-steps: invalid int value: 'x'"),
    ("resume_training", ("--checkpoint", f"store/{HASH}/checkpoints/step_1.pt"), "step_1.json: cannot be read"),
    ("resume_training", ("--checkpoint", f"store/{HASH}/checkpoints/step_2.pt"), "step_2.pt: damaged"),
    ("interactive_inference", ("--top-k", "-1"), "--top-k: -1 needs a number of at least 0"),
    ("check_checkpoint", ("bare.pt",), "--spec: not a BaseSpec"),
    ("interactive_inference", ("bare.pt",), "bare.pt: is no language model that can be read"),
    ("interactive_inference", ("data",), "data: holds neither best_model.pt nor model.pt"),
    ("export_model", ("--hash", HASH, "--output", "out"), f"--hash: {HASH} is not in .rootstock/store"),
    ("cluster", ("explode",), "argument COMMAND: invalid choice: 'explode'"),
    ("cluster", ("logs", "b", "--cluster-config", "one.json"), "logs: 'b' is no server"),
    ("summarise", ("--study", "good.yaml", "--output", "out/summary.csv"), "metrics.json: cannot be read"),
    ("summarise", ("--study", "nowhere.json", "--output", "out/summary.csv"), "nowhere.json: no such file"),
    ("prepare_data", ("--task", "chess", "--spec", "{}", "--output", "out"), 'task: "chess" unknown'),
    ("prepare_data", ("--task", "activity", "--spec", '{"name": 5}', "--output", "out"), "--spec: not a DataIdentity"),
    ("measure_baseline", ("--spec", "{}", "--data_path", "x", "--output", "out"), "--spec: not a spec of a baseline"),
    ("generate_jobs", ("--configfile", "good.yaml", "--output-dir", "text.pt"), "text.pt: "),
]  # fmt: skip
X, Y = torch.zeros(4, 3, 32), torch.zeros(4, dtype=torch.int64)
DATA = [
    ((X, Y, Y, Y), "needs a tuple (X, y) of two tensors"),
    ((X, [0, 1, 2, 0]), "needs a tuple (X, y) of two tensors"),
    ((X, Y.bool()), "y is torch.bool"),
    ((X, Y - 1), "class indices must be 0 to"),
    ((X, Y + 10**6), "class indices must be 0 to"),
    ((X[:, :, :0], Y), "X has shape [4, 3, 0]"),
    (b"", "bob_train.pt: "),
    (b"PK\x03\x04", "bob_train.pt: "),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Project:
    """A project with people, a good study, and files that are not what their names say."""
    project = Project(tmp_path_factory.mktemp("project"))
    write_people(project / "data/tiny")
    (project / "good.yaml").write_text(
        json.dumps({"study": "good", "data": {"path": "data/tiny"}, "folds": [0], "finetune": {"mode": "target_only"}})
    )
    (project / "text.pt").write_text("weights")
    torch.save([1, 2], project / "other.pt")
    torch.save({"spec": {"task": 5}, "hash": HASH}, project / "odd.pt")
    torch.save({"spec": {"task": "language_model"}, "hash": HASH, "model": {}}, project / "bare.pt")
    checkpoints = project / f"store/{HASH}/checkpoints"
    checkpoints.mkdir(parents=True)
    described = {"hash": HASH, "spec": {"task": "activity"}, "data": "x", "step": 2, "loss": None, "world_size": 1}
    (checkpoints / "step_1.json").write_text("[]")
    (checkpoints / "step_2.json").write_text(json.dumps(described | {"run": {}, "epoch": 1, "asked_by": {}}))
    for number in (1, 2):
        (checkpoints / f"step_{number}.pt").write_text("weights")
    (project / "one.json").write_text(json.dumps({"servers": [{"host": "a", "gpus": 0}]}))
    for name in ("s.yaml", "s.json", "hosts.json"):
        (project / name).touch()
    (project / ".rootstock").mkdir()
    return project


def told(place, capsys, *command) -> str:
    """The one line of a script that refuses, which is no apology of ours."""
    line = refused(place, capsys, *command)
    assert "Traceback" not in line and "this is a bug" not in line
    return line


def test_they_are_sixty():
    assert len(STUDIES) + len(JOB_LISTS) + len(SERVERS) + len(FLAGS) + len(DATA) >= 60


@pytest.mark.parametrize(("study", "line"), STUDIES, ids=range(len(STUDIES)))
def test_a_study(place, capsys, study, line):
    if isinstance(study, dict):
        own = {} if {"data", "model"} & set(study) else {"data": {"path": "data/tiny"}}
        study = json.dumps({"study": "s"} | own | study).encode()
    (place / "s.yaml").write_bytes(study)
    assert line in told(place, capsys, "generate_jobs", "--configfile", "s.yaml")


@pytest.mark.parametrize(("content", "line"), JOB_LISTS, ids=range(len(JOB_LISTS)))
def test_a_job_list(place, capsys, content, line):
    (place / "s.json").write_bytes(content)
    assert line in told(place, capsys, "generate_jobs", "--configfile", "s.json")


@pytest.mark.parametrize(("servers", "line"), SERVERS, ids=range(len(SERVERS)))
def test_a_list_of_servers(place, capsys, servers, line):
    (place / "hosts.json").write_text(json.dumps({"servers": servers}))
    assert line in told(place, capsys, "cluster", "check", "--cluster-config", "hosts.json")


@pytest.mark.parametrize(("script", "flags", "line"), FLAGS, ids=range(len(FLAGS)))
def test_a_flag(place, capsys, script, flags, line):
    assert line in told(place, capsys, script, *flags)


@pytest.mark.parametrize(("content", "line"), DATA, ids=range(len(DATA)))
def test_a_data_file(place, capsys, content, line):
    file = place / "data/tiny/bob_train.pt"
    before = file.read_bytes()
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    try:
        error = told(place, capsys, "train_base", *BASE)
    finally:
        file.write_bytes(before)
    assert line in error and "data/tiny/bob_train.pt" in error
