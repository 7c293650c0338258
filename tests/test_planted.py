"""Files that somebody else made: what they name is not imported, what they hold is not taken for what it is not."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, job_of, plan, ran, refused

from rootstock import load_model
from rootstock.commands import cli
from rootstock.engine.files import to_bytes
from rootstock.job.train import train
from rootstock.store.objects import stored
from rootstock.store.users import record_user
from rootstock.study.code import code_digest, with_imports
from rootstock.study.identity import canonical, digest, sha256_bytes, text_digest
from rootstock.study.own import NAMED, name_own
from rootstock.study.problems import Refusal, StudyError
from rootstock.study.run import Run
from rootstock.study.told import told as told_as
from rootstock.tasks.activity.models import build_model
from rootstock.tasks.activity.specs import Model
from rootstock.tasks.registry import TASKS

OWN = """\
from pathlib import Path
from torch import nn
Path("ran").touch()
class Net(nn.Linear):
    def __init__(self, in_channels, n_outputs, **settings):
        super().__init__(in_channels, n_outputs)
    def forward(self, x):
        return super().forward(x.mean(2))
def evil(*args, **settings):
    Path("called").touch()
class Thing:
    __init__ = evil
"""


@pytest.fixture
def nets(project, people, monkeypatch) -> str:
    """A module of the user's own, that notes when it is imported; its name, another for each test."""
    monkeypatch.chdir(project.folder)
    name = f"nets_{project.folder.parent.name}"
    (project / f"{name}.py").write_text(OWN)
    NAMED.clear()
    yield name
    sys.modules.pop(name, None)


def base_of(architecture: str):
    """A base training with a network of the user's own."""
    (base,) = plan(data={"path": "data/tiny"}, base={"model": architecture, "max_epochs": 1}, folds=[0]).bases.values()
    return base


def file_of(base, model: Model | None = None, folder: Path = Path("given"), **more) -> Path:
    """A file as this very training would have left it, or one that names another network."""
    model, spec = model or base.spec.model, json.loads(canonical(base.spec))
    content = {
        "model": {},
        "spec": spec,
        "hash": digest(base.spec),
        "architecture": json.loads(canonical(model)),
        "in_channels": 6,
        "n_outputs": 1,
        "n_classes": None,
        "binary": True,
        "code": TASKS.find("activity").code_of(base.spec, None),
        **more,
    }
    folder.mkdir(exist_ok=True)
    (folder / "model.pt").write_bytes(to_bytes(content))
    return folder / "model.pt"


def source_of(module: str) -> str:
    return code_digest(with_imports(module))


def test_a_class_that_only_a_file_names_is_not_imported(project, nets, capsys):
    base = base_of(f"{nets}:Net")
    file = file_of(base)
    with pytest.raises(Refusal, match=r"only a file names it.*name it by --own_class"):
        load_model(file)
    assert "only a file names it" in refused(project, capsys, "check_checkpoint", file)
    assert not (project / "ran").exists() and nets not in sys.modules
    with pytest.raises(Refusal, match="of another architecture"):  # its weights are none; the class was loaded
        load_model(file, own_class=f"{nets}:Net")
    assert (project / "ran").exists()


@pytest.mark.parametrize("named", ["subprocess:Popen", "shutil:rmtree"])
def test_what_a_file_names_beside_its_spec_is_not_called(project, people, monkeypatch, named):
    """The hash of a module's code is nobody's secret."""
    monkeypatch.chdir(project.folder)
    file = file_of(base_of("test"), Model(architecture=named, settings={}, source=source_of(named.partition(":")[0])))
    with pytest.raises(Refusal, match=r"only a file names it"):
        load_model(file)
    with pytest.raises(Refusal, match=r"is no subclass of torch\.nn"):
        load_model(file, own_class=named)


def test_who_starts_from_a_base_of_an_own_class_names_it(project, nets, capsys):
    """The name of a base model is not the name of a class: the base may be of a store that others write too."""
    own = f"{nets}:Net"
    study = {"data": {"path": "data/tiny"}, "base": {"model": own, "max_epochs": 2}, "folds": [0]}
    project.publish_here({"study": "own", "run": {"keep_checkpoints": 1}} | study, ".rootstock/store")
    (name,) = (file.stem for file in project.folder.glob("base_models/*.pt"))
    (project / "ran").unlink()
    NAMED.clear()
    sys.modules.pop(nets)
    by_hand = ["--base_model_hash", name, "--fold", "0", "--mode", "last_layer_only", "--data_path", "data/tiny"]
    assert "give its --model" in ran(project, capsys, "train_finetune", *by_hand)[2]
    finetune = {"mode": "last_layer_only", "max_epochs": 1}
    (tuned,) = plan(**study, finetune=finetune).experiments.values()
    given = ["--spec", tuned.json, "--data_path", "data/tiny", "--base", f"base_models/{name}.pt", "--output", "out"]
    assert "only a file names it" in ran(project, capsys, "train_finetune", *given)[2]
    checkpoint = project / f".rootstock/store/{name}/checkpoint_step_1.pt"
    assert "only a file names it" in refused(project, capsys, "resume_training", "--checkpoint", checkpoint)
    assert not (project / "ran").exists()
    resume = [project.python, "workflow/scripts/resume_training.py", "--checkpoint", checkpoint, "--own_class", own]
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.execv", lambda _, command: told.extend(command))
        ran(project, capsys, "resume_training", *resume[2:])
    assert told[-2:] == ["--own_class", own]
    for flags in ([*by_hand, "--model", own], [*given, "--own_class", own]):
        NAMED.clear()
        assert ran(project, capsys, "train_finetune", *flags)[0] == 0


def test_a_class_named_in_a_study_reaches_its_fine_tunes(project, nets):
    """As the workflow passes it on: see rules/finetune.smk."""
    (tuned,) = plan(
        data={"path": "data/tiny"},
        base={"model": f"{nets}:Net"},
        folds=[0],
        finetune={"mode": "last_layer_only"},
    ).bases.values()
    assert tuned.spec.own_class == f"{nets}:Net" and base_of("test").spec.own_class is None
    rules = (ROOT / "workflow/rules/finetune.smk").read_text()
    assert "--own_class {params.own_class:q}" in rules


def test_an_own_class_of_other_code_or_of_unknown_code_is_not_built(project, nets):
    own = f"{nets}:Net"
    name_own(own)
    for source, reason in ((None, "without the hash of its code"), ("0" * 16, "is of other code")):
        with pytest.raises(Refusal, match=reason):
            build_model(Model(architecture=own, settings={}, source=source), 6, 1)
    assert not (project / "ran").exists()


@pytest.mark.parametrize("name", ["Path", "nn", "build_model", "torch", "x.y:__class__"])
def test_a_network_is_one_of_ours_or_a_class_of_its_user(name):
    with pytest.raises(Refusal, match="is none of ConvBlocks"):
        build_model(Model(architecture=name, settings={}, source="0" * 16), 1, 1)


# A model under a name that is not its own


def base_job(**base):
    study = {"data": {"path": "data/tiny"}, "folds": [0], "base": {"max_epochs": 1} | base}
    (training,) = plan(**study, run={"device": "cpu"}).bases.values()
    return job_of(training)


INDICES = {"another": '{{"{other}": "{wanted}"}}', "deep": "[" * 200_000, "odd": '{{"{other}": [1]}}'}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_former_names_makes_no_model_another(project, people, monkeypatch, index):
    """Whoever writes into a store writes its index: another seed's model was committed, and signed, under this one's hash."""
    monkeypatch.chdir(project.folder)
    other, wanted, said = train(base_job()), base_job(seed=7), []
    told = index.format(other=other.hash, wanted=wanted.hash)
    (other.store / "former_names_1.json").write_text(told)
    kept = train(replace(wanted, say=said.append))
    assert kept.read()["spec"]["seed"] == 7 and any("epoch 1/" in line for line in said)


def test_a_long_chain_of_stages_in_a_store_stops_no_training(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    before = "0" * 16
    for _ in range(1200):
        text = canonical({"task": "activity", "parent": before})
        before = digest({"task": "activity", "parent": before})
        (project / f"store/{before}").mkdir(parents=True)
        (project / f"store/{before}/metadata.json").write_text(json.dumps({"spec_json": text}))
    assert train(base_job()).is_whole()


CODE = "from pathlib import Path\nPath({ran!r}).touch()\nclass Evil: ...\n"
AUTO = {f"Auto{what}": "evil.Evil" for what in ("Config", "Model", "Tokenizer")} | {
    "AutoTokenizer": ["evil.Evil", "evil.Evil"]
}


@pytest.mark.parametrize("model_type", ["bert", "nobody_knows"])
def test_no_code_of_a_pretrained_folder_is_run_nor_asked_about(tmp_path, monkeypatch, model_type):
    from rootstock.tasks.distillation.specs import ModelIdentity, Student
    from rootstock.tasks.distillation.student import pretrained_student
    from rootstock.tasks.distillation.teacher import load_teacher

    def ask(*_):
        raise AssertionError("asked whether to run it")

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("rootstock.tasks.distillation.student.locate", lambda *_: str(tmp_path))
    monkeypatch.setattr("rootstock.tasks.distillation.teacher.locate", lambda *_: str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": AUTO}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": AUTO}))
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]))
    (tmp_path / "evil.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    identity = ModelIdentity(folder="given", content="0" * 16)
    student = Student.model_construct(
        model=identity, layers=None, dimension=None, projection_hidden_dim=None, dropout=None
    )
    for load in (
        lambda: pretrained_student(student, 16, None),
        lambda: load_teacher(identity, 16, "float32", torch.device("cpu")),
    ):
        with pytest.raises(Refusal, match="cannot be loaded"):
            load()
    assert not (tmp_path / "ran").exists()


def test_a_model_file_names_no_code_of_its_transformer():
    from rootstock.tasks.distillation.student import without_code

    told = {"model_type": "bert", "auto_map": AUTO, "inner": [{"_attn_implementation": "a/kernel", "n": 1}]}
    assert without_code(told) == {"model_type": "bert", "inner": [{"n": 1}]}


# Whose work is taken without a signature


@pytest.fixture
def trust(project, people, tmp_path, monkeypatch) -> Run:
    """Run settings that name a key whose owner signed nothing here."""
    monkeypatch.chdir(project.folder)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "private.pem"], check=True)
    pair = ["-in", tmp_path / "private.pem", "-pubout", "-out", tmp_path / "public.pem"]
    subprocess.run(["openssl", "pkey", *pair], check=True)
    return Run(trust=str(tmp_path / "public.pem"), device="cpu", keep_checkpoints=1)


def to_others(file: Path) -> None:
    """Give a file to the second account."""
    if os.geteuid() != 0:
        pytest.skip("not root: no second account to act as")
    shutil.chown(file, "nobody")


def open_to_others(file: Path) -> None:
    file.chmod(0o664)


OTHERS = {to_others: "belongs to user", open_to_others: "others may write .*chmod go-w"}


@pytest.mark.parametrize("give", OTHERS)
@pytest.mark.parametrize("name", ["state.pt", "checkpoint_step_2.pt", "checkpoints/step_2.pt"])
def test_a_start_that_others_could_write_is_refused_where_a_key_is_named(trust, give, name):
    """A planted state went into a training whose result was signed afterwards."""
    shorter, longer = base_job(schedule="constant"), base_job(schedule="constant", max_epochs=2)
    kept = train(replace(shorter, run=trust))
    file = kept.folder / name
    if name.startswith("checkpoints"):
        file.parent.mkdir()
        for suffix in (".pt", ".json"):
            shutil.copy((kept.folder / "checkpoint_step_2.pt").with_suffix(suffix), file.with_suffix(suffix))
    starts = replace(longer, checkpoint=str(file), run=trust)
    give(kept.metadata if name == "state.pt" else file)
    with pytest.raises(Refusal, match=OTHERS[give]) as refusal:
        train(starts)
    assert "\n" not in str(refusal.value) and str(file.parent) in str(refusal.value)
    assert train(replace(starts, run=trust.model_copy(update={"trust": None}))).is_whole()


@pytest.mark.parametrize("give", [*OTHERS, None])
def test_a_checkpoint_that_others_could_write_is_passed_over_where_a_key_is_named(trust, give):
    job, said = replace(base_job(), run=trust), []
    kept = train(job)
    folder = Path("copy")
    shutil.copytree(kept.folder, folder)
    kept.metadata.unlink()
    kept.checkpoints.mkdir()
    for suffix in (".pt", ".json"):
        shutil.copy((folder / "checkpoint_step_2.pt").with_suffix(suffix), kept.checkpoints / f"step_2{suffix}")
    if give:
        give(kept.checkpoints / "step_2.pt")
    train(replace(job, say=said.append))
    passed = [line for line in said if "passed over" in line]
    assert len(passed) == bool(give) and (not give or "run.trust" in passed[0])


def test_a_checkpoint_of_another_training_is_told_by_what_it_holds(project, people, monkeypatch):
    """Another seed's, renamed, with a description that says it is this one's."""
    monkeypatch.chdir(project.folder)
    kept, job, said = train(replace(base_job(), run=Run(keep_checkpoints=1))), base_job(seed=7), []
    job.kept.checkpoints.mkdir(parents=True)
    file = job.kept.checkpoints / "step_2.pt"
    shutil.copy(kept.folder / "checkpoint_step_2.pt", file)
    described = json.loads((kept.folder / "checkpoint_step_2.json").read_text())
    file.with_suffix(".json").write_text(json.dumps(described | {"hash": job.hash}))
    train(replace(job, say=said.append))
    assert any(f"belongs to {kept.hash}, not to {job.hash}" in line for line in said)


@pytest.mark.parametrize("give", OTHERS)
def test_what_others_could_write_is_handed_out_only_where_it_is_signed(trust, give):
    job = replace(base_job(), run=trust)
    kept = train(job)
    kept.publish_base(Path("mine.pt"), Path("mine.json"))
    give(kept.model)
    with pytest.raises(Refusal, match=rf"is not signed; run\.trust.*{OTHERS[give]}"):
        train(job).publish_base(Path("again.pt"), Path("again.json"))
    stored(kept.store, kept.hash).publish_base(Path("again.pt"), Path("again.json"))
    assert not Path("again.pt").samefile(kept.model)  # they could write to it later


def test_what_a_job_writes_is_only_its_users_to_write(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    before = os.umask(0o002)
    try:
        kept = train(replace(base_job(), run=Run(keep_checkpoints=1)))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in kept.folder.rglob("*") if file.is_file()} == {0o644}


# One object stops nobody


def deep_folders(top: Path, depth: int = 1500) -> None:
    """Folders in each other, deeper than Python recurses and than a path can be long, with a file and a link in the last."""
    top.mkdir(parents=True)
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("inner", dir_fd=folder)
        above, folder = folder, os.open("inner", os.O_RDONLY, dir_fd=folder)
        os.close(above)
    os.close(os.open("file", os.O_CREAT, dir_fd=folder))
    os.symlink("/", "link", dir_fd=folder)
    os.close(folder)


def nested(depth: int) -> str:
    return '{"spec": ' * depth + "1" + "}" * depth


def with_deep_spec(kept) -> None:
    text = nested(900)
    whole = json.loads(kept.metadata.read_text())
    kept.metadata.write_text(json.dumps(whole | {"spec_json": text})[:-1] + f', "spec": {text}}}')


def many_files(kept) -> None:
    kept.checkpoints.mkdir()
    for number in range(30):
        (kept.checkpoints / f"{number}").touch()


PLANTED = {
    "deep folders": lambda kept: deep_folders(kept.checkpoints),
    "many files": many_files,
    "deep metadata": lambda kept: kept.metadata.write_text("[" * 200_000),
    "deep spec": with_deep_spec,
    "huge metadata": lambda kept: os.truncate(kept.metadata, 2**41),
    "huge model": lambda kept: os.truncate(kept.model, 2**41),
    "pipe": lambda kept: (kept.model.unlink(), os.mkfifo(kept.model)),
    "socket": lambda kept: (kept.model.unlink(), socket.socket(socket.AF_UNIX).bind(str(kept.model))),
    "empty metadata": lambda kept: kept.metadata.write_text("{}"),
}


@pytest.fixture
def store(project, people, tmp_path_factory, monkeypatch) -> Path:
    """A store with one object; the path is short, for a socket's name is."""
    monkeypatch.chdir(project.folder)
    kept = stored("store", NAME)
    kept.commit(b"weights", {"kind": "base", "history": []}, SPEC)
    project.study("s", {"data": {"path": "data/tiny"}, "base": {"max_epochs": 1}, "store": "store"})
    return kept.store


SPEC = '{"lr":1.0}'
NAME = text_digest(SPEC)
OTHER_SPEC = '{"lr":2.0}'


@pytest.mark.parametrize("what", PLANTED)
def test_one_object_that_somebody_planted_is_one_line_and_the_others_go_on(project, store, capsys, monkeypatch, what):
    monkeypatch.setattr("rootstock.machine.trees.MANY", 20)
    other = stored("store", text_digest(OTHER_SPEC))
    other.commit(b"weights", {"kind": "base", "history": []}, OTHER_SPEC)
    PLANTED[what](other)
    for command, *more in (["list"], ["verify"], ["gc", "--configfile", "s.yaml"]):
        status, out, err = ran(project, capsys, "base_models", command, *more, "--store", "store")
        told = [line for line in out.splitlines() if other.hash in line and ("delete" in line or "forget" in line)]
        is_told = command == "verify" or what != "huge model"
        assert (status, err) == (command == "verify", "") and len(told) == is_told, out
        assert command != "list" or NAME in out
    ran(project, capsys, "list_checkpoints", "--store", "store")
    assert train(replace(base_job(), store="store")).is_whole()
    status, _, err = ran(project, capsys, "base_models", "forget", other.hash, "--store", "store")
    assert status == 0 and not other.folder.exists(), err


def test_deep_folders_in_the_place_of_checkpoints_cost_no_training(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    job = base_job()
    deep_folders(job.kept.checkpoints / "deep")
    kept = train(job)
    assert kept.is_whole() and not kept.checkpoints.exists()


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/")])
def test_something_in_the_place_of_the_users_is_one_line_and_lists_go_on(project, store, capsys, make):
    make(store / "users")
    status, out, err = ran(project, capsys, "base_models", "list", "--store", "store")
    assert status == 0 and not err and f"{store / 'users'}: is" in out and NAME in out


# Studies of strangers


YTE = "__use_yte__: true\nstudy: s\n?__import__('pathlib').Path('ran').touch():\n  base: {}\n"


@pytest.mark.parametrize("text", [YTE, "x: &x {__use_yte__: 1}\n<<: *x\nstudy: s\n", '{"__use_yte__": true}'])
def test_a_study_that_is_a_template_is_refused_before_snakemake_reads_it(project, capsys, text):
    (project / "s.yaml").write_text(text)
    for flags in (["--task"], ["--check"], []):
        said = refused(project, capsys, "generate_jobs", "--configfile", "s.yaml", *flags)
        assert "s.yaml: __use_yte__: is no key of a study" in said
    assert not (project / "ran").exists()


def test_make_reads_a_study_by_our_own_reader_first():
    rules = (ROOT / "Makefile").read_text()
    run, check = (rules.partition(f"\n{name}: .venv/installed\n\t")[2] for name in ("run", "check"))
    assert run.startswith("@$(install_task)\n") and check.startswith("@$(install_task)\n")
    assert "install_task = task=$$($(generate) --task) && " in rules


@pytest.mark.parametrize("odd", ["a\nrm -r ~  # run this", "\x1b]0;title\x07", "a\rb", "\u2028", "\u202e"])
def test_names_of_others_are_one_line_of_plain_letters_in_every_refusal(odd):
    told = [str(Refusal(f"{odd}: no")), *StudyError([f"{odd}: no", "a: b"]).lines, told_as(OSError(2, "no", odd))]
    assert all(line.isprintable() for line in told) and str(StudyError(["a", "b"])) == "a\nb"
    assert "\\" in told[0]


def test_a_name_of_two_lines_in_a_store_is_one_line(project, store, capsys):
    (store / NAME / "a\n\x1b[2Jb").symlink_to("/")
    status, out, _ = ran(project, capsys, "base_models", "verify", "--store", "store")
    first, second = out.splitlines()
    assert status == 1 and "a\\n\\x1b[2Jb: is a link" in first and second == "1 damaged"


def test_a_record_of_two_lines_is_no_record(project, store, capsys):
    record_user(store, Path("/x"), "study", set())
    (file,) = (store / "users").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"person": "me\n0 objects"}))
    status, out, _ = ran(project, capsys, "base_models", "users", "--store", "store")
    assert status == 0 and len(out.splitlines()) == 1 and "no texts of one line" in out


def test_a_home_in_a_path_of_a_study_or_flag_is_a_home(project, people, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HOME", str(project.folder))
    planned = plan(data={"path": "~/data/tiny"}, base={"max_epochs": 1}, store="~/x", run={"trust": "~/key.pem"})
    assert planned.study.store == str(project / "x") and planned.study.run.trust == str(project / "key.pem")
    assert list(planned.bases) == list(plan(data={"path": "data/tiny"}, base={"max_epochs": 1}).bases)
    assert {base.data for base in planned.bases.values()} == {str(project / "data/tiny")}
    assert cli.store_folder("~/x") == str(project / "x") == cli.new_folder("~/x")
    for study in ({"store": "~nobody_here/x"}, {"data": {"path": "~nobody_here/x"}}):
        with pytest.raises(StudyError, match="~name is a home that there is"):
            plan(**study)
    assert str(project / "x") in refused(project, capsys, "base_models", "show", "0", "--store=~/x")
    assert "~name is a home" in refused(project, capsys, "base_models", "list", "--store=~nobody_here/x")
    assert not [name for name in os.listdir() if name.startswith("~")]


# A folder of all


@pytest.mark.parametrize("planted", ["file", "folder"])
def test_details_of_a_bug_are_written_through_no_link(tmp_path, monkeypatch, planted):
    """Who looks at a file from /tmp may find .rootstock there, and the details hold what that file says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    precious = tmp_path / "precious/last_error.txt"
    precious.write_text("years of work")
    link = tmp_path / ".rootstock"
    if planted == "file":
        link.mkdir()
        link = link / "last_error.txt"
    link.symlink_to(precious if planted == "file" else precious.parent)
    assert "this is a bug" in told_as(ZeroDivisionError("x"))
    assert precious.read_text() == "years of work"
    assert planted == "folder" or ("ZeroDivisionError" in link.read_text() and not link.is_symlink())


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_model_writes_commands_no_terminal(monkeypatch, is_terminal):
    from rootstock.tasks.language_model import chat
    from rootstock.tasks.language_model.sampling import Sampling

    wrote: list[str] = []
    monkeypatch.setattr(chat, "stream_text", lambda *_: (piece for piece in ("a\x1b]52;c;", "b\n\x07")))
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(chat, "encode_prompt", lambda *_: [])
    model = SimpleNamespace(shape=SimpleNamespace(context_length=8))
    chat.Session(model, SimpleNamespace(tokenizer=None), Sampling(), wrote.append).go_on("> ")
    assert "".join(wrote) == ("> a?]52;c;b\n?\n" if is_terminal else "> a\x1b]52;c;b\n\x07\n")


ODD_STATES = {
    "nothing": {},
    "odd counts": {"threads": 1, "compile": False, "epoch": "x", "batch": [], "model": 3},
    "no list": {"threads": "1"},
}


@pytest.mark.parametrize("state", ODD_STATES.values(), ids=ODD_STATES)
def test_a_checkpoint_that_is_no_state_is_one_line(project, people, monkeypatch, state):
    """Its sha256 is right: who wrote it wrote that too."""
    monkeypatch.chdir(project.folder)
    job = base_job()
    job.kept.checkpoints.mkdir(parents=True)
    content = to_bytes(state | {"hash": job.hash})
    (job.kept.checkpoints / "step_1.pt").write_bytes(content)
    told = {"hash": job.hash, "sha256": sha256_bytes(content)}
    (job.kept.checkpoints / "step_1.json").write_text(json.dumps(told))
    with pytest.raises(Refusal, match="a checkpoint of this training holds no state"):
        train(job)


def test_metadata_of_no_training_is_named_by_the_job_that_needs_it(project, people, monkeypatch):
    monkeypatch.chdir(project.folder)
    job = base_job()
    job.kept.folder.mkdir(parents=True)
    job.kept.metadata.write_text('{"code": "x", "spec": {"task": "activity"}}')
    with pytest.raises(Refusal, match=f"{job.kept.metadata}: .*forget {job.hash}"):
        train(job)
