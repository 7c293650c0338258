"""What a training says while it runs: before the first evaluation too, and without a bit of difference."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import job_of, plan, prepared
from tiny import TINY

from rootstock.engine.epoch_line import last_epoch
from rootstock.engine.pulse import gradient_norm
from rootstock.job.train import train
from rootstock.study.run import Run

BEAT = r"step (\d+)/22  loss \d+\.\d{4}  lr \S+  gradient norm \S+  \S+ tokens/s  memory \S+ MB$"


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, list[str]]:
    """What one trunk says that is looked at after every step, and what it says that is not; their weights are the same."""
    folder = tmp_path_factory.mktemp("pulse")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        TINY["language_model"].write(folder / "data/tiny")
        (base,) = prepared(plan(**TINY["language_model"].content())).bases.values()
        said: dict[str, list[str]] = {"often": [], "never": []}
        kept = [
            train(
                replace(job_of(base, name, Run(log_seconds=seconds, **more)), say=said[name].append)
            ).model.read_bytes()
            for name, seconds, more in (("often", 1e-9, {"tensorboard": True}), ("never", None, {}))
        ]
    assert kept[0] == kept[1]
    return said | {"folder": [str(folder)]}


def test_steps_are_said_before_the_first_evaluation(told):
    first = next(number for number, line in enumerate(told["often"]) if line.startswith("evaluation 1/"))
    steps = [found[1] for line in told["often"][:first] if (found := re.match(BEAT, line))]
    assert steps == ["1", "2", "3", "4", "5"] and not any(line.startswith("step ") for line in told["never"])


def test_an_evaluation_says_the_same_of_its_stretch(told):
    lines = [line for line in told["never"] if line.startswith("evaluation ")]
    assert len(lines) == 4
    for line, step in zip(lines, (6, 12, 18, 22), strict=True):
        assert re.search(rf"  step {step}/22  lr \S+  gradient norm \S+  \S+ tokens/s  memory \S+ MB$", line), line


def test_what_a_log_says_last_is_what_a_watcher_reads(told):
    assert last_epoch("") == "" and last_epoch("torch is loaded") == ""
    first = next(number for number, line in enumerate(told["often"]) if line.startswith("evaluation 1/"))
    begun = last_epoch("\n".join(told["often"][: first - 1]))
    assert re.fullmatch(r"step 4/22, loss \S+, \S+ tokens/s", begun)
    then = last_epoch("\n".join(told["often"][: first + 3]))
    assert re.fullmatch(r"evaluation 1/4, train loss \S+; step 8/22, loss \S+, \S+ tokens/s", then)
    assert re.fullmatch(r"evaluation 4/4, train loss \S+", last_epoch("\n".join(told["often"])))


def test_curves_have_every_step(told):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    (folder,) = Path(told["folder"][0]).glob("logs/tensorboard/*")
    found = events.EventAccumulator(str(folder)).Reload()
    for name in ("lr", "gradient_norm", "memory_mb", "pace/tokens_per_second"):
        assert [event.step for event in found.Scalars(name)] == list(range(1, 23))
    assert [event.step for event in found.Scalars("val/loss")] == [6, 12, 18, 22]


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_a_norm_is_that_of_the_gradient_before_it_is_clipped(clip):
    from torch import nn

    from rootstock.engine.loop import _update

    model = nn.Linear(3, 2)
    model(torch.ones(1, 3)).sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    torch.testing.assert_close(gradient_norm(model, 2.0), expected / 2)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    norm = _update(model, torch.optim.SGD(model.parameters()), scaler, None, clip, looks=True)
    torch.testing.assert_close(norm, expected)
