"""A small network for one number in, one out."""

import torch
from torch import nn

from rootstock.engine.batches import even_batches
from rootstock.engine.files import load
from rootstock.engine.loop import Outcome, fit, untrained
from rootstock.engine.models import rebuilt
from rootstock.engine.seeding import seed_step


def train_base(spec, inputs, context):
    seed_step(spec.seed, 0)
    points = [load(f"{inputs.folder}/{place}.pt") for place in spec.others]
    trainee = Trainee(network(spec.width), spec, points, context)
    fitted = fit(trainee, spec, context)
    return Outcome({"model": fitted.state, **trainee.rebuilds}, {"loss": trainee.evaluate()}, fitted)


def train_finetune(spec, inputs, context):
    model = load_model(inputs.base.content, f"base model {inputs.base.hash}")
    x, y = load(f"{inputs.folder}/{spec.place}.pt")
    trainee = Trainee(model, spec, [(x[: int(spec.share * len(x))], y[: int(spec.share * len(y))])], context)
    before = trainee.evaluate()
    fitted = fit(trainee, spec, context)
    return Outcome({"model": fitted.state, **trainee.rebuilds}, {"before": before, "after": trainee.evaluate()}, fitted)


def measure_base(spec, inputs, context):
    model = load_model(inputs.base.content, f"base model {inputs.base.hash}")
    before = Trainee(model, spec, [load(f"{inputs.folder}/{spec.place}.pt")], context).evaluate()
    return untrained(inputs.base.content, {"before": before, "after": before})


def load_model(content, where):
    return rebuilt(content, lambda: network(content["width"]), where)


def network(width):
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Dropout(0.0), nn.Linear(width, 1))


class Trainee:
    def __init__(self, model, spec, points, context):
        self.model, self.spec, self.world = model.to(context.device), spec, context.world
        self.x, self.y = (torch.cat(part).to(context.device) for part in zip(*points, strict=True))
        self.rebuilds = {"width": model[0].out_features}

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(1000 * self.spec.seed + epoch)
        return even_batches(torch.randperm(len(self.x), generator=generator), self.spec.batch_size)

    def loss(self, model, samples, epoch):
        return (model(self.x[samples]) - self.y[samples]).square().sum()

    @torch.inference_mode()
    def evaluate(self):
        self.model.eval()
        return {"loss": (self.model(self.x) - self.y).square().mean().item()}

    def train_mode(self):
        self.model.train()
