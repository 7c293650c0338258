"""What once ended in a traceback, or never: each is one line for its user, exit status 1 and nothing written.

Here are the inputs that were found by others; `test_sixty` has a table of new ones, `test_bad_input` what a study may get wrong.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import Project, ran, refused, write_people
from test_language_tools import prepared_base

from rootstock.study.fingerprints import Fingerprints
from rootstock.study.problems import Problems
from rootstock.study.reading import read_file
from rootstock.tasks.activity.data import read_windows
from rootstock.tasks.distillation.pretrained import pretrained
from rootstock.tasks.language_model.sampling import Sampling, probabilities

LONG, DEEP = "a" * 300, "[" * 100_000
NO_TEXT = os.fsdecode(b"\xff")
PHASES = {"model": {"teacher": "all-MiniLM-L6-v2", "student": "all-MiniLM-L6-v2"}, "phase2": {"num_negatives": 1}}
STUDIES = {
    "long": {"data": {"path": LONG}},
    "nul": {"data": {"path": "a\0b"}},
    "half": {"data": {"path": "\ud800"}},
    "store": {"store": "a\0b"},
    "long_store": {"store": LONG},
    "jobs": {"jobs": "a\0b"},
    "home": {"task": "distillation", "data": {"path": "~no-such-user/x.jsonl"}},
    "teacher": {"task": "distillation", "data": {"teacher": "~no-such-user/x"}},
    "lengths": PHASES | {"phase1": {"max_length": []}},
    "wide": {"prefix": "{mode:>3000000000}", "finetune": {}},
    "exact": {"prefix": "{base_lr:.100000000f}", "finetune": {}},
    "nested": {"prefix": "{mode:{mode}}", "finetune": {}},
    "stages": {"base": {"parent": json.loads('{"parent":' * 60 + "1" + "}" * 60)}},
}
FILES = {
    "date.yaml": b"study: x\nbase: {lr: 2020-01-01}\n",
    "said.yaml": b"study: x\ndescription: [a, b]\n",
    "binary.yaml": b"study: x\ndescription: !!binary YQ==\n",
    "tag.yaml": b"study: x\nbase: {use_augmentation: !!bool perhaps}\n",
    "laughs.yaml": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 121)),
    "endless.yaml": b"a: &a [*a]\n",
    "latin.json": b"\xff\xfe{",
}  # fmt: skip
BASE = ("--fold", "0", "--data_path", "data/tiny", "--max_epochs", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Project:
    """A project with every odd file of this page in it."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder)
    write_people(folder / "data/tiny")
    for name, content in STUDIES.items():
        own = {} if "phase2" in content else {"data": {"path": "data/tiny"}} if "task" not in content else {}
        project.study(name, own | content)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / ".rootstock").mkdir()
    return project


PLANNED = {
    "date": 'base.lr: "2020-01-01" needs a number',
    "said": 'description: ["a", "b"] needs one line of text',
    "binary": "binary.yaml: b'a' is of a kind that no setting has (bytes)",
    "tag": "tag.yaml: malformed YAML: 'perhaps'",
    "laughs": "laughs.yaml: nests deeper than 50 levels, or holds more than 2000000 values",
    "endless": "endless.yaml:1: malformed YAML: found unconstructable recursive node",
    "long": f'data.path: "{LONG[:199]}',
    "nul": 'data.path: "a\\u0000b" needs a path',
    "half": "half.yaml: '\\ud800' is no text",
    "store": 'store: "a\\u0000b" needs a path',
    "long_store": "needs a path: text without NUL",
    "jobs": "jobs: a\\u0000b: cannot be read",
    "home": 'data.path: "~no-such-user/x.jsonl" needs a path',
    "teacher": 'data.teacher: "~no-such-user/x" needs a path',
    "lengths": "phase1.max_length: [] is an empty sweep",
    "wide": 'prefix: "{mode:>3000000000}" is not a template',
    "exact": 'prefix: "{base_lr:.100000000f}" is not a template',
    "nested": 'prefix: "{mode:{mode}}" is not a template',
    "stages": "stages.yaml: nests deeper than 50 levels",
    "missing": "missing.yaml: no such file",
    LONG: "File name too long",
}


@pytest.mark.parametrize(("name", "line"), PLANNED.items(), ids=[name[:20] for name in PLANNED])
def test_a_study(place, capsys, name, line):
    assert line in refused(place, capsys, "generate_jobs", "--configfile", f"{name}.yaml")


@pytest.mark.parametrize(
    ("script", "flags"), [("generate_jobs", ()), ("status", ()), ("base_models", ("gc",)), ("summarise", ())]
)
def test_a_folder_in_the_place_of_a_study(place, capsys, script, flags):
    flag = ("--study", "data", "--output", "x/summary.csv") if script == "summarise" else ("--configfile", "data")
    assert "data: cannot be read as UTF-8 text" in refused(place, capsys, script, *flags, *flag)


@pytest.mark.parametrize(
    ("script", "flags", "line"),
    [
        ("train_base", (*BASE, "--run", "[]"), 'argument --run: "[]" cannot be read: it is no JSON object'),
        ("train_base", (*BASE, "--run", DEEP), "it is nested too deeply"),
        ("train_base", (*BASE, "--expect", "[]"), 'argument --expect: "[]" cannot be read'),
        ("train_base", (*BASE, "--gpus", "abc"), 'run.gpus: "abc" needs a whole number'),
        ("train_base", (*BASE, "--seed", str(2**70)), f'--seed: "{2**70}" needs a whole number below 2^63'),
        ("train_base", ("--data_path", "data/tiny", "--spec", '{"a":' * 50_000), "--spec: is not the JSON object"),
        ("train_base", ("--data_path", "data/tiny", "--spec", "latin.json"), '--spec: "latin.json" is neither'),
        ("train_base", ("--data_path", "data/tiny", "--spec", DEEP), "is neither JSON nor a readable file"),
        ("train_base", ("--fold", "0", "--data_path", LONG), "--data_path: "),
        ("train_base", (*BASE, "--store", LONG), "argument --store: "),
        ("train_base", (*BASE, "--output", LONG), "argument --output: "),
        ("train_base", (*BASE, "--device", NO_TEXT), "--device: b'\\xff' is no text in UTF-8"),
        ("train_finetune", (*BASE, "--prefix", NO_TEXT), "--prefix: b'\\xff' is no text in UTF-8"),
        ("prepare_data", ("--task", "activity", "--spec", DEEP, "--output", "prepared/x"), "is neither JSON"),
        ("measure_baseline", ("--spec", '{"a":' * 50_000, "--data_path", "x", "--output", "y"), "nested too deeply"),
        ("summarise", ("--study", "latin.json", "--output", "x/summary.csv"), "latin.json: cannot be read as UTF-8"),
        ("export_model", ("--hash", "0" * 16, "--study", "latin.json", "--output", "x"), "latin.json: cannot be read"),
        ("generate_jobs", ("--keys", "latin.json"), "latin.json: cannot be read as UTF-8"),
        ("cluster", ("check", "--cluster-config", "latin.json"), "latin.json: cannot be read as UTF-8"),
        ("resume_training", ("--gpus", "abc", "--checkpoint", LONG), "no such file; list_checkpoints.py shows"),
        ("check_checkpoint", (LONG,), f"{LONG}: File name too long"),
        ("interactive_inference", (LONG,), "holds no language model"),
        ("interactive_inference", ("--prompt", NO_TEXT), "--prompt: b'\\xff' is no text in UTF-8"),
    ],
)  # fmt: skip
def test_a_flag(place, capsys, script, flags, line):
    assert line in refused(place, capsys, script, *flags)


def test_a_date_is_text(place):
    (place / "dated.yaml").write_text("study: x\ndescription: 2020-01-01\n")
    assert read_file(place / "dated.yaml")["description"] == "2020-01-01"


def test_a_study_that_cannot_be_read_hides_no_other(project, capsys):
    (project / "config").unlink()
    (project / "config/studies").mkdir(parents=True)
    (project / "config/config.yaml").write_text("[]")
    (project / "config/studies/a.yaml").write_text("a: [")
    (project / "config/studies/b.yaml").write_text("description: the third\n")
    status, out, err = ran(project, capsys, "list_studies")
    assert status == 0 and not err and len(out.splitlines()) == 3
    assert "config.yaml  " in out and "is not a study" in out and "malformed YAML" in out and "the third" in out


# A pretrained model's own files

CONFIGS = {
    "a list": ("[]", None, "holds no config.json that can be read"),
    "a number": ("5", None, "holds no config.json that can be read"),
    "deep": (DEEP, None, "holds no config.json that can be read"),
    "a width": ('{"hidden_size": "x"}', None, 'has in config.json hidden_size: "x"'),
    "layers": ('{"num_hidden_layers": [1]}', None, "has in config.json num_hidden_layers: [1]"),
    "no width": ('{"hidden_size": 0}', None, "has in config.json hidden_size: 0"),
    "modules": ("{}", "{}", None),
    "a module": ("{}", "[5]", None),
    "a path": ("{}", '[{"path": 5}]', None),
    "a NUL": ("{}", '[{"path": "a\\u0000b"}]', None),
    "deep modules": ("{}", DEEP, None),
}


@pytest.mark.parametrize(("config", "modules", "line"), CONFIGS.values(), ids=CONFIGS)
def test_a_model_folder_of_odd_files(tmp_path, monkeypatch, config, modules, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd").mkdir()
    for name, content in {"config.json": config, "modules.json": modules, "tokenizer.json": "{}"}.items():
        if content is not None:
            (tmp_path / "odd" / name).write_text(content)
    problems, fingerprints = Problems(), Fingerprints()
    found = pretrained("odd", "data.teacher", fingerprints, problems)
    assert (found is None) == (line is not None)
    if line:
        (told,) = problems.lines
        assert told.startswith(f'data.teacher: "odd" {line}') and "\n" not in told


# Tensors that are no plain values

X, Y = torch.randn(24, 3, 32), torch.arange(24) % 3
NESTED = torch.nested.nested_tensor([torch.randn(3, 32)] * 2, layout=torch.jagged)
TENSORS = {
    "meta": ((X.to("meta"), Y), "tensors on the device meta"),
    "labels on meta": ((X, Y.to("meta")), "tensors on the device meta"),
    "nested": ((NESTED, Y[:2]), "sparse or nested tensors"),
    "expanded": ((torch.zeros(1).expand(2**40, 3, 32), Y[:1].expand(2**40)), "a view that repeats values"),
}


@pytest.mark.parametrize(("content", "line"), TENSORS.values(), ids=TENSORS)
def test_a_data_file(place, capsys, content, line):
    file = place / "data/tiny/bob_train.pt"
    before = file.read_bytes()
    torch.save(content, file)
    try:
        status, _, err = ran(place, capsys, "train_base", *BASE)
    finally:
        file.write_bytes(before)
    assert status == 1 and len(err.splitlines()) == 1 and "bob_train.pt: " in err and line in err


def test_what_a_tensor_was_computed_with_is_no_part_of_it(tmp_path):
    torch.save((X.clone().requires_grad_(), Y), tmp_path / "bob_train.pt")
    windows = read_windows(tmp_path, "bob", "train")
    assert torch.equal(windows.x.all(), X) and not windows.x.all().requires_grad


# Talking to a model


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """A project with a tiny language model."""
    project = Project(tmp_path_factory.mktemp("trained"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        base = prepared_base(project, {"base": {"max_steps": 2, "eval_every": 2, "warmup_steps": 0}})
        project.here("train_base", "--spec", base.json, "--data_path", base.data)
    return project


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--seed", str(2**70)), f"--seed: {2**70} needs a whole number below 2^63"),
        (("--max-length", "9" * 5000), "--max-length: "),
        (("--temperature", "nan"), "--temperature: NaN needs a number"),
    ],
)
def test_a_setting_of_a_text(trained, capsys, flags, line):
    assert line in refused(trained, capsys, "interactive_inference", "--prompt", "x", *flags)


def test_the_smallest_temperature_takes_the_likeliest():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    for temperature in (1e-320, 1e-45, 0.0):
        assert probabilities(logits, Sampling(temperature=temperature)).tolist() == [[0.0, 1.0, 0.0]]


def test_a_prompt_on_a_pipe_that_is_no_text_is_a_line_and_the_next_is_read(trained):
    command = [sys.executable, "workflow/scripts/interactive_inference.py", "--max-length", "2", "--temperature", "0"]
    done = subprocess.run(command, input=b"\xff\noak\n", cwd=trained.folder, capture_output=True)
    first, second = done.stdout.decode().splitlines()[:2]
    assert done.returncode == 0 and first.startswith("prompt: '\\udcff' is no text") and second.startswith("oak")


@pytest.mark.parametrize("change", [None, {"asked_by": None}, {"history": [{}]}, {"run": []}, {"kind": 5}])
def test_metadata_of_a_model_that_is_talked_to(trained, tmp_path, capsys, change):
    copy = Project.__new__(Project)
    copy.folder = tmp_path / "copy"
    shutil.copytree(trained.folder, copy.folder, symlinks=True)
    (metadata,) = copy.folder.glob(".rootstock/store/*/metadata.json")
    content = json.loads(metadata.read_text())
    metadata.write_text(json.dumps([] if change is None else content | change))
    for script in ("interactive_inference", "list_checkpoints"):
        status, _, err = ran(copy, capsys, script)
        assert status == 1 and "Traceback" not in err and "bug" not in err
        assert any("metadata.json" in line for line in err.splitlines()) and "holds no" in err
