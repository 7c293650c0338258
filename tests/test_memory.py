"""What rules ask for of memory: it follows data, model and batch, and is no less than a training takes."""

import os
import tracemalloc
from typing import Any

import pytest
import torch
from conftest import plan, write_people
from tiny import TINY

from rootstock.engine.recompute import recompute
from rootstock.study.fingerprints import Fingerprints
from rootstock.study.memory import MB, UNKNOWN, Memory, needed
from rootstock.study.run import Run
from rootstock.tasks.activity.headers import shape_of
from rootstock.tasks.activity.memory import memory_of
from rootstock.tasks.activity.models import build_model
from rootstock.tasks.activity.presets import PRESETS
from rootstock.tasks.activity.specs import Model
from rootstock.tasks.distillation import memory as of_students
from rootstock.tasks.language_model import memory as of_text

CPU = {"run": {"gpus": 0}}


def planned_base(study: dict[str, Any]):
    """The one base of a study, and who asks for it."""
    (base,) = plan(**CPU | study).bases.values()
    return base, base.asked_by[0]


def asked(**study) -> int:
    """MB, by that base."""
    return planned_base(study)[0].mem_mb


def kept_for_gradients(model: torch.nn.Module, *inputs: torch.Tensor) -> int:
    """Bytes that a forward pass keeps, each storage once, but for the parameters."""
    kept, own = {}, {one.untyped_storage().data_ptr() for one in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(*inputs)  # lives on: so does what it keeps
    assert output.requires_grad
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("changed", [{}, {"use_residual": True, "num_blocks": 6}, {"base_channels": 128}])
def test_a_step_of_a_network_takes_no_more_than_is_asked(tmp_path, preset, changed):
    write_people(tmp_path / "data", channels=6, samples=600)
    study = {"data": {"path": str(tmp_path / "data")}, "folds": [0], "finetune": {}}
    base, request = planned_base(study | {"base": {"model": preset, "batch_size": 8, **changed}})
    memory = memory_of(request.data, base.spec, None, Fingerprints())
    model = build_model(base.spec.model, 6, 1)
    kept = kept_for_gradients(model, torch.randn(8, 6, 600))
    assert kept < 8 * memory.sample < 8 * kept
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count <= memory.parameters <= max(10 * count, 10_000)


def test_a_language_model_has_no_more_parameters_and_keeps_no_more_than_is_asked():
    from rootstock.tasks.language_model.model import LanguageModel

    base = {"d_model": 64, "n_layers": 3, "n_heads": 4, "d_ff": 96, "context_length": 64, "batch_size": 4}
    trunk, request = planned_base({"task": "language_model", "data": {"vocab_size": 1024}, "base": base})
    found = of_text.memory_of(request.data, trunk.spec, None, Fingerprints())
    model = LanguageModel(1024, trunk.spec.model)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == found.parameters
    own_head = trunk.spec.model_copy(update={"model": trunk.spec.model.model_copy(update={"is_tied": False})})
    assert of_text.memory_of(request.data, own_head, None, Fingerprints()).parameters == count + 1024 * 64
    tokens = torch.randint(1024, (4, 64))
    kept = kept_for_gradients(model, tokens, tokens)
    assert kept < 4 * found.sample < 3 * kept
    recompute(model.blocks)
    assert kept_for_gradients(model, tokens, tokens) < 0.5 * kept
    assert kept_for_gradients(model, tokens, tokens) < 4 * found.recomputed < 3 * found.sample
    memory = Memory(0, 0, 8, 100 * MB, recomputed=20 * MB)
    less = needed(memory, Run(gpus=0)) - needed(memory, Run(gpus=0, activation_checkpointing=True))
    assert less == 800  # 1.25 * 8 * (100 - 20)


def test_a_student_has_no_more_parameters_than_is_asked(tmp_path, monkeypatch):
    from rootstock.tasks.distillation.student import pretrained_student

    monkeypatch.chdir(tmp_path)
    tiny = TINY["distillation"]
    tiny.write(tmp_path / "data/tiny")
    base, request = planned_base(tiny.study)
    found = of_students.memory_of(request.base, request.data, base.spec, None, Fingerprints())
    model, _ = pretrained_student(base.spec.student, 16, base.spec.data.teacher.dimension)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count <= 1.5 * found.parameters and found.parameters <= 2 * count


def test_what_is_asked_follows_data_batch_and_processes(tmp_path):
    folder = write_people(tmp_path / "data", channels=3, samples=400)
    study = {"data": {"path": str(folder)}, "folds": [0], "finetune": {}, "base": {"batch_size": 64}}
    small = asked(**study)
    os.truncate(folder / "cleo_train.pt", 300 * 2**20)  # only its size is looked at
    large = asked(**study)
    assert 300 <= large - small <= 500 and large <= UNKNOWN / 2
    wide = study | {"base": {"batch_size": 4096}}
    assert asked(**wide) > large + 300
    assert asked(**wide, run={"gpus": 0, "micro_batch_size": 64}) == large
    assert large < asked(**study, run={"gpus": 0, "processes": 2}) < 2 * large  # they share the data
    assert asked(**study, run={}) > 3000 + 300  # there may be a GPU, and CUDA takes that


def test_what_is_unknown_is_bounded_and_a_task_that_says_nothing_asks_for_four_gigabytes(tmp_path):
    assert needed(None, Run()) == UNKNOWN == 4000
    base, request = planned_base({"data": {"path": str(write_people(tmp_path / "data"))}, "folds": [0], "finetune": {}})
    unknown = base.spec.model_copy(update={"model": Model(architecture="own_net:Net", settings={})})
    found = [memory_of(request.data, spec, None, Fingerprints()) for spec in (base.spec, unknown)]
    assert found[1].parameters >= 1e7 and found[1].sample > 20 * found[0].sample
    assert needed(Memory(0, 1e9, 1, 0), Run(gpus=0)) > 50_000  # a billion parameters with all that AdamW keeps of them


def test_processes_share_data_and_split_a_batch_and_compiling_takes_more():
    memory = Memory(data=1000 * MB, parameters=0, batch_size=8, sample=100 * MB)
    one, two = needed(memory, Run(gpus=0)), needed(memory, Run(gpus=0, processes=2))
    assert one == 3100 and two == 3600  # 1.25 * (1000 + 450 + 8 * 100) + 200, then of 2 * (450 + 4 * 100)
    assert needed(memory, Run(gpus=0, compile=True)) == 5600


def test_a_model_of_any_depth_is_weighed_at_no_cost():
    """A study may ask for more layers than a list can hold; what is wrong with that its training says."""
    deep, small = 10**5, {"num_blocks": 2, "base_channels": 8}
    trunk, of_trunk = planned_base({"task": "language_model"})
    shape = trunk.spec.model_copy(update={"model": trunk.spec.model.model_copy(update={"n_layers": deep})})
    networks = [planned_base({"base": small | {"model": preset}, "folds": [0]}) for preset in ("test", "pooled")]
    tracemalloc.start()
    of_text.memory_of(of_trunk.data, shape, None, Fingerprints())
    for base, request in networks:
        model = base.spec.model.model_copy(update={"settings": base.spec.model.settings | {"num_blocks": deep}})
        memory_of(request.data, base.spec.model_copy(update={"model": model}), None, Fingerprints())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**19


def test_a_header_tells_the_shape_of_windows(tmp_path):
    torch.save((torch.zeros(300, 6, 70_000)[:, :, :5].clone(), torch.zeros(300)), tmp_path / "a.pt")
    torch.save({"model": torch.zeros(2)}, tmp_path / "b.pt")
    torch.save((torch.zeros(3, 2, 4), torch.zeros(3)), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "d.pt").write_bytes(b"PK\x03\x04")
    assert shape_of(tmp_path / "a.pt") == (300, 6, 5)
    assert [shape_of(tmp_path / f"{name}.pt") for name in ("b", "c", "d", "missing")] == [None] * 4
