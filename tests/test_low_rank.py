"""Low-rank updates: merged and beside their layer they are the same, and nothing else of a model is trained."""

import copy

import pytest
import torch
from torch import nn

from rootstock.engine.low_rank import add_low_rank, merged, update_of
from rootstock.study.problems import Refusal

LAYERS = {
    "linear": (nn.Linear(6, 5), (4, 3, 6)),
    "linear without bias": (nn.Linear(6, 5, bias=False), (4, 6)),
    "conv1d": (nn.Conv1d(6, 8, 3, stride=2, padding=1), (4, 6, 17)),
    "conv1d that wraps": (nn.Conv1d(6, 8, 5, padding=2, dilation=2, padding_mode="circular"), (4, 6, 17)),
    "conv1d in groups": (nn.Conv1d(6, 9, 3, groups=3), (4, 6, 17)),
    "conv1d channel by channel": (nn.Conv1d(6, 6, 3, groups=6), (4, 6, 17)),
    "conv1d of one sample": (nn.Conv1d(6, 8, 3), (6, 17)),
    "conv2d": (nn.Conv2d(3, 8, (3, 2), stride=(2, 1), padding="valid"), (4, 3, 9, 8)),
    "conv2d in groups": (nn.Conv2d(4, 8, 3, padding=1, groups=2), (4, 4, 9, 8)),
}


def trained(model: nn.Module, *flags, **more) -> nn.Module:
    """A model whose updates are no longer zero."""
    add_low_rank(model, *flags, **more)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("low_rank_update.up"):
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("kind", LAYERS)
def test_an_update_is_the_same_beside_its_layer_and_merged(kind):
    layer, shape = LAYERS[kind]
    plain = nn.Sequential(copy.deepcopy(layer))
    before, x = copy.deepcopy(plain.state_dict()), torch.randn(shape)
    first = plain(x)
    adapted = copy.deepcopy(plain)
    add_low_rank(adapted, rank=2, alpha=3.0)
    torch.testing.assert_close(adapted(x), first, rtol=0, atol=0)  # an untrained update is none
    adapted = trained(copy.deepcopy(plain), rank=2, alpha=3.0)
    plain.load_state_dict(merged(adapted.state_dict()))
    assert (plain(x) - first).abs().max() > 0.1
    torch.testing.assert_close(adapted(x), plain(x), rtol=1e-4, atol=1e-5)
    kept = {name: tensor for name, tensor in adapted.state_dict().items() if name in before}
    assert all(torch.equal(kept[name], before[name]) for name in before)  # names and weights of the layers stay


def test_a_weight_that_two_layers_share_is_merged_into_the_one_that_learned():
    embedding, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embedding.weight
    model = trained(nn.Sequential(embedding, head), rank=1, alpha=1.0)
    weights = merged(model.state_dict())
    assert torch.equal(weights["0.weight"], embedding.weight) and not torch.equal(weights["1.weight"], embedding.weight)


def test_only_the_updates_of_the_layers_that_are_named_are_trained():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.first, self.last = (
                nn.Conv1d(2, 3, 3),
                nn.BatchNorm1d(3),
                nn.Linear(3, 4),
                nn.Linear(4, 2),
            )

        def forward(self, x):
            return self.last(self.first(self.norm(self.conv(x)).mean(2)))

    model = Net()
    assert add_low_rank(model, 2, 2.0, ["conv", "last"]) == ["conv", "last"]
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned == {f"{layer}.low_rank_update.{part}" for layer in ("conv", "last") for part in ("up", "down")}
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # in the first step only `up`, which begins as zeros, has a gradient
        model(torch.randn(5, 2, 9)).square().sum().backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == learned | {f"norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert set(update_of(after)) == learned | {"conv.low_rank_update.scale", "last.low_rank_update.scale"}


def test_every_layer_is_one_but_those_whose_weight_others_read():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "last": nn.Linear(4, 2)})
    assert add_low_rank(model, 2, 2.0) == ["last"]
    with pytest.raises(Refusal, match="targets: no linear or convolution layer is called query; here"):
        add_low_rank(model, 2, 2.0, ["last", "query"])
