"""The programs around a language model, run as a user runs them: a session in a real terminal, pipes, resume, listings."""

import io
import json
import os
import re
import shutil
import signal
import sys
import time

import pandas
import pexpect
import pytest
from conftest import Project, jobs_run, plan, prepared, ran
from test_engine import start
from tiny import TINY

from rootstock.tasks.language_model.report import branch_table

pytestmark = pytest.mark.xdist_group("language_tools")
CONSTANT = {"base": {"schedule": "constant", "max_steps": 24}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """A project with one trained trunk, kept at steps 8, 16 and 24."""
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        base = prepared_base(project, CONSTANT)
    finally:
        os.chdir(before)
    flags = ("--spec", base.json, "--data_path", base.data, "--keep_checkpoints", "8")
    project.here("train_base", *flags)
    return project


def prepared_base(project: Project, *more: dict):
    """The trunk of the tiny study, its text prepared; the working folder is the project's."""
    TINY["language_model"].write(project / "data/tiny")
    planned = plan(**TINY["language_model"].content(*more))
    return next(iter(prepared(planned).bases.values()))


@pytest.fixture
def project(trained, tmp_path) -> Project:
    """A copy of the trained project, to be changed at will."""
    shutil.copytree(trained.folder, tmp_path / "copy", symlinks=True)
    copy = Project.__new__(Project)
    copy.folder = tmp_path / "copy"
    return copy


# What prompt_toolkit sends when it begins to read a line and when it has one: it turns bracketed paste on and off.
READS, HAS_READ = r"\x1b\[\?2004h", r"\x1b\[\?2004l"


def model_of(project: Project) -> str:
    (name,) = [file.stem for file in (project / "base_models").glob("*.pt")]
    return name


def talk(project: Project, *flags: str) -> pexpect.spawn:
    command = ["workflow/scripts/interactive_inference.py", "--max-length", "30", "--seed", "1", *flags]
    terminal = pexpect.spawn(
        sys.executable, command, cwd=str(project.folder), encoding="utf-8", timeout=60, dimensions=(60, 200),
        codec_errors="replace",  # the terminal shows ^C where it is typed: in the middle of a character, perhaps
        env=os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )  # fmt: skip
    terminal.expect("step 24, epoch [0-9.]+, loss [0-9.]+ nats a token")
    terminal.expect(READS)
    return terminal


def say(terminal: pexpect.spawn, line: str, answer: str) -> None:
    """Type a line and wait for an answer to it, which its echo is not, and for the next prompt."""
    terminal.send(line + "\r")
    terminal.expect(HAS_READ)
    terminal.expect(answer)
    terminal.expect(READS)


def test_a_session_in_a_real_terminal(trained):
    terminal = talk(trained)
    say(terminal, "help", r"set NAME VALUE")
    say(terminal, "", "write the beginning of a text, or help")
    say(terminal, "settings", r"temperature 0\.8\s+top-k 50\s+top-p 0\.9\s+seed 1")
    say(terminal, "set temperature 0", r"temperature 0\.0")
    say(terminal, "set top-p 3", "top-p: 3 needs a number of at most 1")
    say(terminal, "set temperature -1", "temperature: -1 needs a number of at least 0")
    say(terminal, "set max_lenght 5", "max_lenght: unknown setting; did you mean max-length")
    say(terminal, "set nonsense 3", "nonsense: unknown setting; choose max-length")
    say(terminal, "set max-length 5", "max-length 5")
    say(terminal, "cat number", r"cat number[^\r\n>]+\r\n")
    say(terminal, "Größe 猫 🙂", "猫 🙂")
    say(terminal, "cat " * 60, r"cat cat cat[^>]*\r\n")
    say(terminal, "clear", r"\x1b\[2J")
    say(terminal, "\x1b[A\x1b[A", "cat cat cat")  # two lines back in the history: the long prompt
    terminal.send("\x04")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_ctrl_c_stops_a_text_and_not_the_program(trained):
    terminal = talk(trained, "--max-length", "1000000", "--top-k", "0", "--top-p", "1", "--temperature", "5")
    for seed in range(20):
        say(terminal, f"set seed {seed}", f"seed {seed}")
        terminal.send("oak\r")
        terminal.expect(HAS_READ)
        terminal.expect("oak.{40}")
        terminal.sendintr()
        if terminal.expect(["…", READS]) == 0:
            break
        # The text ended by itself, and Ctrl-C came after it: all that follows is read before the next try.
        terminal.expect(pexpect.TIMEOUT, timeout=2)
        terminal.buffer = ""
    else:
        pytest.fail("no text lasted until Ctrl-C")
    terminal.expect(READS)
    terminal.send("half a line\x03")
    terminal.expect(HAS_READ)
    terminal.expect(READS)
    say(terminal, "set max-length 3", "max-length 3")
    terminal.send("quit\r")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_prompts_without_a_terminal(trained):
    one = trained.script("interactive_inference", "--prompt", "dog", "--temperature", "0", "--max-length", "8")
    again = trained.script(
        "interactive_inference", model_of(trained), "--prompt", "dog", "--temperature", "0", "--max-length", "8"
    )
    assert one.stdout == again.stdout and one.stdout.startswith("dog")
    seeded = [trained.script("interactive_inference", "--prompt", "dog", "--seed", "5").stdout for _ in range(2)]
    assert seeded[0] == seeded[1]


def test_programs_read_and_write_json_lines(trained, capsys, monkeypatch):
    asked = b'{"prompt": "dog", "id": "a"}\n{"prompt": "oak"}\n'
    flags = ("--json-lines", "--samples", "2", "--seed", "1", "--max-length", "9", "--repetition-penalty", "1.1")
    flags += ("--temperature", "5", "--top-k", "0", "--top-p", "1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(asked)))
    status, out, _ = ran(trained, capsys, "interactive_inference", *flags, "--stop", "\\n")
    texts = [json.loads(line) for line in out.splitlines()]
    assert (
        status == 0 and [(text["prompt"], text.get("id")) for text in texts] == [("dog", "a")] * 2 + [("oak", None)] * 2
    )
    assert len({(text["prompt"], text["text"]) for text in texts}) == 4 and not any(
        "\n" in text["text"] for text in texts
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n" + asked)))
    status, out, _ = ran(trained, capsys, "interactive_inference", *flags)
    assert status == 1 and "utf-8" in json.loads(out.splitlines()[0])["error"] and len(out.splitlines()) == 5


def test_bytes_that_are_no_text_end_nothing(trained, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\nset \xff 3\nset stop \xff\ndog\n")))
    status, out, _ = ran(trained, capsys, "interactive_inference", "--max-length", "3", "--seed", "1")
    bad, unknown, stop, text = out.split("\n", 3)
    assert status == 0 and "is no text in UTF-8" in bad and "unknown setting" in unknown
    assert stop.startswith("stop") and text.startswith("dog")


BAD = [
    (("--samples", "0"), 'argument --samples: "0" needs a whole number of at least 1'),
    (("--temperature", "-1"), "--temperature: -1 needs a number of at least 0"),
    (("--top-p", "0"), "--top-p: 0 needs a number above 0"),
    (("--stop", ""), '--stop: [""] needs text that is not empty'),
    (("--top-p", "1.5"), "--top-p: 1.5 needs a number of at most 1"),
    (("--top-k", "some"), '--top-k: "some" needs a whole number'),
    (("ffff",), "ffff: is neither a file nor the hash"),
    (("Snakefile",), "Snakefile: "),
    (("--store", "empty"), "empty: holds no language model; train one first: make run STUDY="),
    (("--device", "cuda:9"), "device: cuda:9 is not there"),
    (("--device", "gpu"), "device: gpu unknown; use auto, cpu"),
]


@pytest.mark.parametrize(("flags", "line"), BAD)
def test_bad_flags_are_told_in_one_line(trained, flags, line):
    done = trained.script("interactive_inference", *flags, "--prompt", "x", check=False)
    assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr


def test_checkpoints_are_listed_and_checked(project):
    listed = project.script("list_checkpoints").stdout
    assert [re.search(rf"kept\s+{step}\s", listed) is not None for step in (8, 16, 24)] == [True] * 3
    assert re.search(r"model\s+24\s+\d\.\d\d\s+\d\.\d{4}", listed) and re.search(r"state\s+24", listed)
    (file,) = project.folder.glob(".rootstock/store/*/checkpoint_step_16.pt")
    checked = project.script("check_checkpoint", str(file)).stdout
    assert "its sha256 is the recorded one" in checked and "step 16" in checked and "can be trained on" in checked
    assert (
        "its sha256 is the recorded one"
        in project.script("check_checkpoint", f"base_models/{model_of(project)}.pt").stdout
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)
    done = project.script("check_checkpoint", str(file), check=False)
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    nothing = project.script("list_checkpoints", "--store", "empty", check=False)
    assert nothing.returncode == 1 and "train one first: make run" in nothing.stderr


def weights(project: Project, name: str) -> bytes:
    return (project / f"base_models/{name}.pt").read_bytes()


def resumed(project: Project, *flags: str) -> tuple[str, str]:
    """What `resume_training.py` printed, and the hash of what it trained."""
    said = project.script("resume_training", *flags).stdout
    return said, said.split()[-1]


def test_a_finished_trunk_goes_on_to_what_a_straight_run_gives(project, monkeypatch):
    said, longer = resumed(project, "--max-steps", "36")
    assert "is what a straight run of 36 steps gives" in said and "evaluation 6/6" in said
    monkeypatch.chdir(project.folder)
    base = prepared_base(project, CONSTANT, {"base": {"max_steps": 36}})
    assert base.hash == longer
    project.here("train_base", "--spec", base.json, "--data_path", base.data, "--store", "straight", "--output", "s.pt")
    assert (project / "s.pt").read_bytes() == weights(project, longer)
    recorded = json.loads((project / f"base_models/{longer}_metadata.json").read_text())["resumed_from"]
    assert recorded == {"hash": model_of_start(project, longer), "step": 24}


def model_of_start(project: Project, longer: str) -> str:
    (name,) = {file.stem for file in (project / "base_models").glob("*.pt")} - {longer}
    return name


def test_a_chosen_checkpoint_goes_on_to_the_same_model(project):
    name = model_of(project)
    before = weights(project, name)
    folder = project / f".rootstock/store/{name}"
    for file in ("metadata.json", "model.pt", "state.pt"):  # as if it had been killed before its end
        (folder / file).unlink()
    said, again = resumed(project, "--checkpoint", str(folder / "checkpoint_step_8.pt"))
    assert "resumed from a checkpoint: step 8" in said
    assert again == name and "its spec is unchanged" in said and "step 8, evaluation 2" in said
    assert weights(project, name) == before


def test_another_batch_is_another_training(project):
    (file,) = project.folder.glob(".rootstock/store/*/checkpoint_step_16.pt")
    said, other = resumed(project, "--checkpoint", str(file), "--batch-size", "2")
    assert "not as before: a step now takes another number of windows" in said
    assert f"resumed from training {model_of_start(project, other)}: step 16, evaluation 3" in said
    metadata = json.loads((project / f"base_models/{other}_metadata.json").read_text())
    assert metadata["spec"]["resumed_from"] == {
        "hash": model_of_start(project, other),
        "step": 16,
        "samples": 64,
        "epoch": 3,
        "batch": 4,
    }
    listed = project.script("list_checkpoints").stdout
    assert metadata["steps"] == 24 and f"{model_of_start(project, other)}@16" in listed
    told = dict(re.findall(r"trunk, (batch_size \d)  .*/(\w{16})/model\.pt", listed))
    assert told == {"batch_size 4": model_of_start(project, other), "batch_size 2": other}


def test_a_budget_between_two_evaluations_is_another_training(project):
    said, other = resumed(project, "--max-steps", "34")
    start = model_of_start(project, other)
    assert f"{other} is a new training, resumed from {start} at step 24" in said and "straight run" not in said
    assert json.loads((project / f"base_models/{other}_metadata.json").read_text())["steps"] == 34


def test_what_a_file_asks_for_is_bounded(project):
    """It may be a stranger's: its threads and processes are started only as far as the machine has use for them."""
    (file,) = project.folder.glob(".rootstock/store/*/checkpoint_step_16.json")
    described = json.loads(file.read_text())
    for name in ("threads", "processes"):
        file.write_text(json.dumps(described | {"run": described["run"] | {name: 100_000}}))
        flags = ("--checkpoint", str(file.with_suffix(".pt")), "--max-steps", "36")
        done = project.script("resume_training", *flags, check=False)
        assert done.returncode == 1 and f"asks for {name}: 100000, and " in done.stderr and done.stderr.count("\n") == 1
    assert len(list((project / "base_models").glob("*.pt"))) == 1


def test_a_killed_training_is_taken_up_again(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    base = prepared_base(project, {"base": {"max_steps": 4000, "eval_every": 2000, "warmup_steps": 10}})
    process = start(project, "--spec", base.json, "--data_path", base.data, "--checkpoint_steps", "20")
    deadline = time.monotonic() + 60
    while not list(project.folder.glob(f".rootstock/store/{base.hash}/checkpoints/step_*.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    said, name = resumed(project, "--max-steps", "60", "--processes", "2")
    assert "processes: 1 become 2" in said and "schedule is now one over 60 steps" in said and name != base.hash


def test_a_damaged_newest_checkpoint_is_passed_over_and_what_was_picked_is_said(project):
    name = model_of(project)
    before = weights(project, name)
    folder = project / f".rootstock/store/{name}"
    for file in ("metadata.json", "model.pt", "state.pt"):
        (folder / file).unlink()
    shutil.copytree(folder, project / f"other/{name}")
    other = project / f".rootstock/store/{'a' * 16}"
    other.mkdir()
    for suffix in ("pt", "json"):  # of another training, written long ago
        shutil.copy(folder / f"checkpoint_step_8.{suffix}", other)
        os.utime(other / f"checkpoint_step_8.{suffix}", (1, 1))
    described = json.loads((other / "checkpoint_step_8.json").read_text())
    (other / "checkpoint_step_8.json").write_text(json.dumps(described | {"hash": other.name}))
    newest = folder / "checkpoint_step_24.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    said, again = resumed(project)
    assert f"{name} was written last, of 2 that could resume; --checkpoint names another" in said
    assert f"passed over: .rootstock/store/{name}/checkpoint_step_24.pt: damaged" in said
    assert "step 16; what is trained goes into .rootstock/store" in said
    assert again == name and weights(project, name) == before
    said, _ = resumed(project, "--checkpoint", f"other/{name}/checkpoint_step_8.pt")
    assert "step 8; what is trained goes into other" in said and (project / f"other/{name}/metadata.json").exists()


def test_what_cannot_be_resumed_is_told(project):
    kept = f".rootstock/store/{model_of(project)}"
    published = f"base_models/{model_of(project)}.pt"
    name = model_of(project)
    for flags, line in (
        ((), "every training here is finished; give --max-steps"),
        (("--checkpoint", name[:6]), f"{name[:6]} is finished; give --max-steps"),
        (("--checkpoint", "0" * 16), "is no file, and names 0 trainings of .rootstock/store"),
        (("--checkpoint", kept), "is a finished model, its training continues from"),
        (("--max-steps", "10"), "--max-steps: 10 is not beyond step 24"),
        (("--max-steps", "0"), "--max-steps: 0 needs a whole number of at least 1"),
        (("--gpus", "99", "--max-steps", "30"), "--gpus: 99 are not there"),
        (("--checkpoint", "nowhere.pt"), "nowhere.pt: no such file; list_checkpoints.py"),
        (("--checkpoint", "data"), "data: is a folder; name a checkpoint in it"),
        (
            ("--checkpoint", published),
            f"{published}: is a finished model, its training continues from .rootstock/store/",
        ),
        (
            ("--checkpoint", f"{kept}/model.pt"),
            f"is a finished model, its training continues from {kept}/state.pt with",
        ),
        (("--checkpoint", "data/tiny/animals.txt"), "nothing beside it says what it holds"),
        (("--store", "empty"), "empty: holds no checkpoint; train one first"),
    ):
        done = project.script("resume_training", *flags, check=False)
        assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr, (flags, done.stderr)


def test_a_training_is_named_by_the_beginning_of_its_hash(project, capsys):
    name = model_of(project)
    for given in (name, name[:8], f".rootstock/store/{name}", f"base_models/{name}.pt"):
        status, out, _ = ran(project, capsys, "check_checkpoint", given)
        assert status == 0 and f"{name}, step" not in out and f", {name}: " in out, given
    status, _, err = ran(project, capsys, "check_checkpoint", "0" * 16)
    assert status == 1 and "is neither a file nor the hash of a model here" in err
    said, _ = resumed(project, "--checkpoint", name[:8], "--max-steps", "36")
    assert f"from .rootstock/store/{name}/state.pt" in said


@pytest.mark.workflow
def test_a_whole_study_with_its_table_and_exports(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(folder)
    TINY["language_model"].write(project / "data/tiny")
    finetune = [
        {"mode": "cool_down", "max_steps": 8, "lr": 0.005, "warmup_steps": 1},
        {"mode": "last_layers_only", "max_steps": 8, "lr": 0.005, "warmup_steps": 1, "schedule": "linear"},
    ]
    project.study("study", TINY["language_model"].content() | {"finetune": finetune, "export": True})
    project.snakemake("--configfile", "study.yaml")
    summary = pandas.read_csv(project / "results/study/summary.csv")
    assert sorted(summary["domain"]) == ["animals", "general"]
    table = branch_table(summary)
    (branch,), (cooled,) = (summary[summary["domain"] == name].to_dict("records") for name in ("animals", "general"))
    assert table["continued"].tolist() == [cooled["loss_animals"]] and table["branch"].tolist() == [
        branch["loss_animals"]
    ]
    assert f"{branch['loss_animals']:.3f}" in (project / "results/study/table.txt").read_text()
    figures = json.loads((project / "results/study/figures/figures.json").read_text())
    assert {"domains", "tokens"} <= set(figures) and "domain_matrix" not in figures
    assert pandas.read_csv(project / "results/study/tables/trunks.csv")["bits a byte"].notna().all()
    exports = sorted(
        file.parent.name.rpartition("_")[0] for file in (project / "artifacts/language_model").glob("*/export.json")
    )
    assert exports == ["cool_down_general", "last_layers_only_animals"]
    before = branch["base_loss_animals"], branch["base_loss_general"]
    assert before == (cooled["base_loss_animals"], cooled["base_loss_general"])
    assert "train_" not in str(jobs_run(project.snakemake("-n", "--configfile", "study.yaml").stderr))
