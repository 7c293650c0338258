"""Killed and taken up again, in one process or several, a training ends with the weights of an undisturbed one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Project, job_of, jobs_run, plan, prepared, write_people
from forks import Forked
from tiny import TINY
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from rootstock.engine import loop
from rootstock.engine.checkpoint import Checkpoints, read_checkpoint
from rootstock.engine.compiling import decided
from rootstock.engine.distributed import World
from rootstock.engine.loop import EarlyStopping
from rootstock.engine.sharding import shard
from rootstock.job import torchrun
from rootstock.job.job import Job
from rootstock.job.train import train
from rootstock.store.objects import stored
from rootstock.study.problems import Refusal
from rootstock.study.run import Run
from rootstock.tasks.activity.trainee import WindowTrainee
from rootstock.tasks.language_model.model import SwiGLU


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program may catch it."""


def obtain(folder: Path, store: str, training, monkeypatch, kill_after: tuple[int, ...] = (), **run):
    """Train `training` in its own store, killed after so many steps of each attempt; the stored object and all steps."""
    whole, taken = loop.seed_step, []
    job = Job(training.spec, training.data, str(folder / store), run=Run(checkpoint_steps=4, **run), say=lambda _: None)
    if getattr(training, "base", None):
        base = stored(folder / "undisturbed", training.base)
        base.publish_base(folder / f"base_models/{base.hash}.pt", folder / f"base_models/{base.hash}_metadata.json")
        job = replace(job, start_model=str(folder / f"base_models/{base.hash}.pt"))
    for limit in (*kill_after, None):
        steps = 0

        def begin_step(*key, limit=limit):
            nonlocal steps
            steps += 1
            if limit is not None and steps > limit:
                raise Killed
            taken.append(key)
            whole(*key)

        monkeypatch.setattr(loop, "seed_step", begin_step)
        try:
            kept = train(job)
        except Killed:
            continue
        finally:
            monkeypatch.setattr(loop, "seed_step", whole)
    return kept, len(taken)


def prepared_tiny(folder: Path, task: str, *more: dict):
    """The plan of a task's tiny study, its data written and prepared below `folder`, which is the working folder."""
    tiny = TINY[task]
    tiny.write(folder / "data/tiny")
    return prepared(plan(**tiny.content(*more)))


@pytest.fixture(
    params=[pytest.param(t, marks=pytest.mark.xdist_group(f"killed_{t}")) for t in sorted(TINY)], scope="module"
)
def undisturbed(request, tmp_path_factory) -> tuple[Path, list]:
    """A folder with the trainings of a task's tiny study, and each of these with what it gave and its steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = prepared_tiny(folder, request.param)
        trainings = [*study.bases.values(), *study.experiments.values()]
        return folder, [(training, *obtain(folder, "undisturbed", training, patch)) for training in trainings]


@pytest.mark.parametrize("kill_after", [(0,), (1,), (4,), (5, 5), (11,), (3, 7, 2), (17, 1)])
def test_a_killed_training_ends_as_an_undisturbed_one(undisturbed, monkeypatch, kill_after):
    folder, trainings = undisturbed
    assert len(trainings) == 2
    monkeypatch.chdir(folder)
    for training, straight, all_steps in trainings:
        resumed, taken = obtain(folder, f"killed_{kill_after}", training, monkeypatch, kill_after)
        assert straight.model.read_bytes() == resumed.model.read_bytes()
        one, other = straight.read(), resumed.read()
        assert one["history"] == other["history"] and one["metrics"] == other["metrics"]
        assert one["run"]["compile"] is False and one["run"]["threads"] == 1
        assert taken <= all_steps + 4 * len(kill_after)
        assert not (resumed.folder / "checkpoints").exists()


def test_so_does_one_that_keeps_its_last_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = prepared_tiny(tmp_path, "activity", {"base": {"early_stopping_metric": "last"}})
    for training in (*study.bases.values(), *study.experiments.values()):
        straight, _ = obtain(tmp_path, "undisturbed", training, monkeypatch)
        resumed, _ = obtain(tmp_path, "killed", training, monkeypatch, (5, 5))
        assert straight.model.read_bytes() == resumed.model.read_bytes()


@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_saves_and_exits_with_try_again(project, people, number, processes):
    flags = ("--fold", "0", "--data_path", "data/tiny", "--max_epochs", "400", "--checkpoint_seconds", "1000")
    process = start(project, *flags, "--processes", processes)
    wait_for_line(project, process, "epoch 3/")
    process.send_signal(number)
    assert process.wait(60) == 75
    *_, last = (project / "out.log").read_text().split("best epoch")
    said = ["stopped at step", *(["stopped as asked;"] if processes > 1 else [])]
    assert [line[: len(start)] for line, start in zip(last.splitlines()[1:], said, strict=True)] == said
    (checkpoint,) = project.folder.glob(".rootstock/store/*/checkpoints/step_*.pt")
    process = start(project, *flags, "--threads", "2")
    wait_for_line(project, process, "resumed from a checkpoint")
    assert "threads: 1, as this training began, not 2" in (project / "out.log").read_text()
    process.kill()
    process.wait()
    assert read_checkpoint(checkpoint)["step"] > 0


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [(-9, 137, "process 1 of the training was killed by SIGKILL; is there enough memory?\n"), (3, 3, ""), (75, 75, "")],
)
def test_why_workers_ended_is_a_line_at_most(monkeypatch, capsys, tmp_path, code, status, told):
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=code, error_file=str(tmp_path / "none"))

    def failed():
        raise ChildFailedError("train_base.py", {1: failure})

    monkeypatch.setattr(torchrun.run, "main", failed)
    monkeypatch.setattr(torchrun.logging, "disable", lambda _: None)  # of this process, which has other tests
    assert torchrun.main() == status
    assert capsys.readouterr().err == told


def start(project: Project, *flags: str) -> "subprocess.Popen | Forked":
    """`train_base.py` in the background, in a process group of its own, its output in `out.log`."""
    (project / "out.log").unlink(missing_ok=True)
    return project.start("train_base", *flags, log="out.log")


def wait_for_line(project: Project, process: "subprocess.Popen | Forked", text: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not re.search(text, log := (project / "out.log").read_text()):
        assert time.monotonic() < deadline and process.poll() is None, log
        time.sleep(0.02)


def flags_of(project: Project, task: str, monkeypatch) -> tuple[str, ...]:
    """`train_base.py` on the base of the steady tiny study, a checkpoint each step."""
    monkeypatch.chdir(project.folder)
    (base,) = prepared_tiny(project.folder, task, TINY[task].steady).bases.values()
    return "--spec", base.json, "--data_path", base.data, "--checkpoint_steps", "1"


def history(project: Project, store: str) -> list[dict]:
    (metadata,) = project.folder.glob(f"{store}/*/metadata.json")
    return json.loads(metadata.read_text())["history"]


def close(one: list[dict], other: list[dict]) -> None:
    """Equal but for the order in which float32 gradients are summed: that grows with the steps, from 1e-7 on."""
    assert len(one) == len(other)  # early stopping decided alike
    for a, b in zip(one, other, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=2e-3)
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=2e-3)
    assert one[0]["train_loss"] == pytest.approx(other[0]["train_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(TINY))
def test_two_processes_learn_as_one_and_may_change_places(project, task, monkeypatch):
    """Augmentation on, early stopping on. Dropout draws differ between world sizes, so it is off here. The first epochs of one
    run are of two processes, and the last ones of the other, its end too."""
    flags = flags_of(project, task, monkeypatch)
    project.here("train_base", *flags, "--store", "one")
    changes = [("first_two", ("--processes", "2"), ()), ("first_one", (), ("--processes", "2"))]
    if task != "distillation":  # whose processes take seconds to load what they need
        project.here("train_base", *flags, "--store", "micro", "--micro_batch_size", "5")
        close(history(project, "one"), history(project, "micro"))
    if task == "language_model":  # from two that hold a part each to one, and the other way round
        spread = ("--processes", "2", "--shard", "--micro_batch_size", "2")
        changes += [("first_spread", spread, ()), ("then_spread", (), spread)]
    for store, first, then in changes:
        process = start(project, *flags, "--store", store, *first)
        wait_for_line(project, process, "(epoch|evaluation) 2/")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert list(project.folder.glob(f"{store}/*/checkpoints/*.pt"))
        done = project.script("train_base", *flags, "--store", store, *then)
        assert "resumed from a checkpoint" in done.stdout
        said = (project / "out.log").read_text() + done.stdout
        parts = re.findall(r"spread over 2 processes: this one holds (\d+) of (\d+) parameters", said)
        assert len(parts) == ("_spread" in store) and all(int(held) <= 0.51 * int(count) for held, count in parts)
        close(history(project, "one"), history(project, store))


def test_two_nodes_on_loopback(project, monkeypatch):
    flags = flags_of(project, "activity", monkeypatch)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "rootstock"]
    command = [*torchrun, "workflow/scripts/train_base.py", *flags, "--store", "nodes"]
    nodes = [subprocess.Popen(command, cwd=project.folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    project.here("train_base", *flags, "--store", "one")
    close(history(project, "one"), history(project, "nodes"))


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


STATE = {"epoch": 1, "step": 8, "model": {"w": torch.ones(3)}}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "code", "no description"])
def test_a_bad_checkpoint_is_passed_over_with_the_reason(tmp_path, damage):
    heard = []
    checkpoints = Checkpoints(tmp_path, "a" * 16, 1, None, heard.append)
    checkpoints.save(4, STATE | {"step": 4})
    checkpoints.save(8, STATE)
    newest = tmp_path / "step_8.pt"
    content = newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[:-10])
    elif damage == "flipped":
        newest.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "foreign":
        described = json.loads(newest.with_suffix(".json").read_text())
        newest.with_suffix(".json").write_text(json.dumps(described | {"hash": "b" * 16}))
    elif damage == "code":
        import hashlib
        import pickle

        newest.write_bytes(pickle.dumps(print))
        described = json.loads(newest.with_suffix(".json").read_text())
        digest = hashlib.sha256(newest.read_bytes()).hexdigest()
        newest.with_suffix(".json").write_text(json.dumps(described | {"sha256": digest}))
    else:
        newest.with_suffix(".json").unlink()
    assert checkpoints.load_latest()["step"] == 4
    assert len(heard) == (0 if damage == "no description" else 1)


def test_an_optimizer_loads_no_compiler_and_takes_the_same_steps(tmp_path):
    """torch's compiler takes seconds to import: more than many a fine-tune."""
    code = """
import sys, torch
from rootstock.engine.optimizers import adamw, muon
def trained(make):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = make(model)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    return model.weight.detach(), optimizer.state_dict().get("state")
ours, our_state = trained(lambda model: adamw(model, 0.1, 0.01))
light, _ = trained(lambda model: muon(model, 0.1, 0.01))
assert "torch._dynamo" not in sys.modules
assert torch.equal(light, trained(lambda model: muon(model, 0.1, 0.01, compiled=True))[0])
for fused, equal in ((True, torch.equal), (False, torch.allclose)):
    theirs, their_state = trained(lambda model: torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.01, fused=fused))
    assert equal(ours, theirs) and equal(our_state[0]["exp_avg_sq"], their_state[0]["exp_avg_sq"])
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    )


@pytest.mark.parametrize("task", ["activity", "language_model"])
def test_a_training_that_is_not_compiled_loads_no_compiler(task, tmp_path, monkeypatch):
    """Transformers, which distillation needs, loads it itself."""
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, task).bases.values()
    code = (
        "import sys; from rootstock.job.job import Job; from rootstock.job.train import train; "
        "from rootstock.tasks.reading import read_spec; "
        "train(Job(read_spec(sys.argv[1], 'base'), sys.argv[2], 'store'))"
    )
    command = [sys.executable, "-c", code + "; assert 'torch._dynamo' not in sys.modules", base.json, base.data]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")})


def test_two_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a" * 16, 1, None, print)
    for step in range(1, 6):
        checkpoints.save(step, STATE | {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_4.json", "step_4.pt", "step_5.json", "step_5.pt"]
    checkpoints.clear()
    assert not tmp_path.exists()


def test_early_stopping_wants_strictly_better():
    stopping = EarlyStopping("f1", patience=2)
    better = [stopping.update(epoch, value) for epoch, value in enumerate([0.5, 0.5, float("nan"), 0.6, 0.6, 0.6], 1)]
    assert better == [True, False, False, True, False, False]
    assert not stopping.is_over(5) and stopping.is_over(6) and stopping.best_epoch == 4


def test_where_the_last_epoch_is_kept_the_latest_is_best_whatever_its_loss():
    stopping = EarlyStopping("last", patience=1)
    better = [stopping.update(epoch, value) for epoch, value in enumerate([0.5, 0.9, float("nan")], 1)]
    assert better == [True, True, False]
    assert stopping.best_epoch == 2


def test_curves_hold_every_epoch_once(tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, "activity").bases.values()
    kept, _ = obtain(tmp_path, "s", base, monkeypatch, (17,), tensorboard=True)
    curves = events.EventAccumulator(str(tmp_path / f"logs/tensorboard/{kept.hash}"))
    curves.Reload()
    shown = [event.value for event in curves.Scalars("train/loss")]
    assert shown == pytest.approx([row["train_loss"] for row in kept.read()["history"]])


def test_a_training_goes_on_from_none_but_itself(project, people, monkeypatch):
    """Another seed's end, or another setting's checkpoint, would give its weights under this one's hash."""
    monkeypatch.chdir(project.folder)
    study = {"data": {"path": "data/tiny"}, "folds": [0], "finetune": {}}
    bases = {"seed": [0, 1], "max_epochs": [1, 2], "lr": 0.01}
    planned = plan(**study, base=bases).bases.values()
    short, other, longer = (
        next(t for t in planned if (t.spec.seed, t.spec.max_epochs) == wanted) for wanted in ((0, 1), (1, 1), (0, 2))
    )
    for training in (short, other):
        train(job_of(training))
    with pytest.raises(Refusal, match=f"--continues: {other.hash} is of {other.hash}, another training"):
        train(replace(job_of(longer), continues=other.hash))
    state = f"store/{other.hash}/state.pt"
    with pytest.raises(Refusal, match=f"--start_from: {state} is of {other.hash}"):
        train(replace(job_of(longer), checkpoint=state))
    assert not (project / f"store/{longer.hash}/metadata.json").exists()
    straight = train(replace(job_of(longer), store="straight"))
    continued = train(replace(job_of(longer), continues=short.hash))
    assert continued.model.read_bytes() == straight.model.read_bytes()


@pytest.mark.parametrize("run", [{"micro_batch_size": 4}, {"processes": 2}])
def test_a_batch_is_not_cut_where_a_layer_must_see_all_of_it(project, people, run):
    """With BatchNorm how a training runs would change its weights, but not its name."""
    flags = ("--fold", "0", "--data_path", "data/tiny", "--model", "medium", "--max_epochs", "1", "--batch_size", "8")
    how = [word for name, value in run.items() for word in (f"--{name}", value)]
    done = project.script("train_base", *flags, *how, check=False)
    (key,) = run
    assert done.returncode != 0 and f"run.{key}:" in done.stderr and "BatchNorm" in done.stderr
    assert not list(project.folder.glob(".rootstock/store/*/metadata.json"))
    if key == "micro_batch_size":
        assert "Traceback" not in done.stderr
        project.script("train_base", *flags, "--micro_batch_size", "8")  # all of a batch


def test_a_diverged_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, "activity").bases.values()
    monkeypatch.setattr(WindowTrainee, "evaluate", lambda self: {"loss": float("nan"), "f1": float("nan")})
    with pytest.raises(Refusal, match="diverged"):
        obtain(tmp_path, "s", base, monkeypatch)
    assert not list(tmp_path.glob("s/*/metadata.json"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path, monkeypatch, precision):
    monkeypatch.chdir(tmp_path)
    folder = write_people(tmp_path / "data")
    study = plan(
        data={"path": str(folder)},
        folds=[0],
        base={"max_epochs": 8, "lr": 0.02, "batch_size": 8, "precision": precision},
    )
    kept, _ = obtain(tmp_path, "s", *study.bases.values(), monkeypatch)
    losses = [row["train_loss"] for row in kept.read()["history"]]
    assert losses[-1] < losses[0]


def test_activation_checkpointing_computes_blocks_twice_and_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(
        tmp_path, "language_model", {"base": {"n_layers": 2, "mask_documents": True}}
    ).bases.values()
    forward, passes, found = SwiGLU.forward, [], []

    def counted(layer, x):
        passes.append(torch.is_grad_enabled())
        return forward(layer, x)

    monkeypatch.setattr(SwiGLU, "forward", counted)
    for store, is_on in (("kept", False), ("recomputed", True)):
        passes.clear()
        kept, steps = obtain(tmp_path, store, base, monkeypatch, activation_checkpointing=is_on)
        assert sum(passes) == 2 * steps * (2 if is_on else 1)
        found.append(torch.load(kept.model)["model"])
    assert all(torch.equal(found[0][name], weight) for name, weight in found[1].items())


@pytest.mark.parametrize(
    ("blocks", "precision", "run", "line"),
    [
        (None, "float32", Run(), "needs a network of blocks"),
        ([], "fp16", Run(), "goes neither with precision: fp16"),
        ([], "bf16", Run(compile=True), "nor with compile"),
    ],
)
def test_what_cannot_be_spread_over_processes_is_refused(blocks, precision, run, line):
    with pytest.raises(Refusal, match=f"shard: true .*{line}"):
        shard(torch.nn.Linear(1, 1), blocks, precision, run)


@pytest.mark.parametrize("count", range(12))
def test_each_process_has_as_many_pieces_of_a_batch(count):
    for at_once in (None, 1, 2, 3):
        pieces = [World(rank, 3).pieces(torch.arange(count), at_once) for rank in range(3)]
        assert len({len(some) for some in pieces}) == 1 and pieces[0]
        assert torch.cat([piece for some in pieces for piece in some]).tolist() == list(range(count))
        assert max(len(piece) for some in pieces for piece in some) <= (at_once or count)


def test_activation_checkpointing_of_a_network_without_blocks_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (base,) = prepared_tiny(tmp_path, "activity").bases.values()
    with pytest.raises(Refusal, match="activation_checkpointing: true needs a network of blocks"):
        obtain(tmp_path, "s", base, monkeypatch, activation_checkpointing=True)


@pytest.mark.workflow
def test_stages_and_budgets_share_their_steps(project, people):
    """Three stages; three budgets of the last one, each going on where the one before ended: equal to straight ones."""
    stages = {"max_epochs": 2, "parent": {"max_epochs": 3, "n_base_participants": 1}}
    base = {"lr": 0.01, "dropout": 0.2, "use_augmentation": True, "parent": stages}
    study = {"data": {"path": "data/tiny"}, "folds": [0], "finetune": {"mode": "base_only"}}
    project.study("budgets", study | {"base": base | {"max_epochs": [2, 4, 7]}})
    run = project.snakemake("bases", "--configfile", "budgets.yaml")
    assert jobs_run(run.stderr + run.stdout)["train_base"] == 5
    done = {m["hash"]: m for m in map(json.loads, (p.read_text() for p in project.folder.glob("base_models/*.json")))}
    assert len(done) == 5
    chained = sorted((m["epochs"], m["steps"], m["trained_steps"]) for m in done.values())
    per_epoch = next(m["steps"] // m["epochs"] for m in done.values() if m["epochs"] == 7)
    assert [row for row in chained if row[0] == 7] == [(7, 7 * per_epoch, 3 * per_epoch)]
    assert sum(m["trained_steps"] for m in done.values()) < sum(m["steps"] for m in done.values())

    project.study("one", study | {"base": base | {"max_epochs": 4}})  # whose base goes on from none
    assert "Nothing to be done" in project.snakemake("bases", "--configfile", "one.yaml").stderr

    project.study("straight", study | {"base": base | {"max_epochs": 7}, "store": "other"})
    (longest,) = [name for name, m in done.items() if m["epochs"] == 7]
    (project / f"base_models/{longest}.pt").unlink()
    project.snakemake("bases", "--configfile", "straight.yaml")
    one, other = (project / f"{store}/{longest}/model.pt" for store in (".rootstock/store", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert json.loads((project / f"other/{longest}/metadata.json").read_text())["trained_steps"] == 7 * per_epoch


def test_budgets_whose_schedule_depends_on_them_are_trained_apart(tmp_path):
    study = plan(data={"pad": True}, folds=[0], base={"max_epochs": [2, 4], "schedule": "cosine"})
    assert all(t.continues is None for t in study.bases.values()) and any("trained apart" in n for n in study.notes)
    study = plan(data={"pad": True}, folds=[0], base={"max_epochs": [4, 2, 8]})
    by_budget = {t.spec.max_epochs: t for t in study.bases.values()}
    assert by_budget[2].continues is None
    assert (by_budget[4].continues, by_budget[8].continues) == (by_budget[2].hash, by_budget[4].hash)


@pytest.mark.parametrize(
    ("wanted", "steps", "repaid_after", "device", "is_compiled"),
    [
        (True, 1, None, "cpu", True),
        (False, 10**6, 1, "cpu", False),
        ("auto", 251, 250, "cpu", True),
        ("auto", 250, 250, "cpu", False),
        ("auto", 10**6, None, "cpu", False),
        ("auto", 10**6, 250, "cuda", False),  # not measured there
    ],
)
def test_auto_compiles_where_the_steps_repay_it(
    wanted, steps, repaid_after, device, is_compiled, monkeypatch, tmp_path
):
    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    assert decided(Run(compile=wanted), steps, repaid_after, torch.device(device)).compile == is_compiled
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert decided(Run(compile="auto"), 10**6, 1, torch.device("cpu")).compile is False


def test_auto_is_recorded_as_what_was_chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = TINY["language_model"]
    tiny.write(tmp_path / "data/tiny")
    (base,) = prepared(plan(**tiny.study)).bases.values()
    kept = train(job_of(base, run=Run(compile="auto")))
    assert json.loads(kept.metadata.read_text())["run"]["compile"] is False
