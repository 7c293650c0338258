#!/usr/bin/env python
"""Strong scaling: 2 processes of one thread against 1 process of one thread, at the same global batch, through the engine.

A transformer is limited by computation, the more so the larger its batch; a small CNN by the exchange of gradients.
Repeats are interleaved and medians shown:

    .venv/bin/python benchmarks/strong_scaling.py [--repeats 5] [--processes 2]

Efficiency is (seconds of 1) / (processes × seconds of n) for the same steps; the first steps are not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow/scripts"))

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="measured steps of each run")
    parser.add_argument("--worker", choices=WORKLOADS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(seconds_a_step(args.worker, args.steps)), flush=True)
        os._exit(0)  # as workers of torchrun do here
    for workload in WORKLOADS:
        alone, together = [], []
        for _ in range(args.repeats):
            alone.append(measure(workload, 1, args.steps))
            together.append(measure(workload, args.processes, args.steps))
        one, many = statistics.median(alone), statistics.median(together)
        pairs = [100 * a / (args.processes * b) for a, b in zip(alone, together, strict=True)]
        print(
            f"{workload:<22} 1 process {1000 * one:7.1f} ms a step, {args.processes} processes {1000 * many:7.1f} ms; "
            f"efficiency {100 * one / (args.processes * many):.1f} % (pairs {min(pairs):.0f} to {max(pairs):.0f} %)",
            flush=True,
        )


def measure(workload: str, processes: int, steps: int) -> float:
    """Median seconds per step of one fresh run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", __file__]
    command += ["--worker", workload, "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[0])


def seconds_a_step(workload: str, steps: int) -> float:
    """Train with the engine's own loop; return the median time between the starts of two steps."""
    import torch

    from rootstock.engine import loop
    from rootstock.engine.distributed import world_of_environment
    from rootstock.engine.progress import Context

    torch.set_num_threads(1)
    times: list[float] = []
    seed_step = loop.seed_step

    def timed(*key: int) -> None:
        times.append(time.perf_counter())
        seed_step(*key)

    loop.seed_step = timed
    torch.manual_seed(0)
    trainee = WORKLOADS[workload](steps + WARM_UP)
    world = world_of_environment(torch.device("cpu"), 600)
    loop.fit(trainee, spec_of(trainee), Context(torch.device("cpu"), world, say=lambda _: None))
    times.append(time.perf_counter())
    gaps = [b - a for a, b in zip(times[WARM_UP:-1], times[WARM_UP + 1 : -1], strict=False)]
    if not world.is_first:
        os._exit(0)
    return statistics.median(gaps)


def spec_of(workload: "Workload"):
    """A minimal spec: one epoch of AdamW."""
    from rootstock.study.fields import Section
    from rootstock.study.spec import BaseSpec, Course

    class Spec(BaseSpec):
        def course(self) -> Course:
            return Course(epochs=1)

    return Spec(task="scaling", recipe=1, data=Section(), batch_size=workload.batch_size, gradient_clip=1.0)


class Workload:
    """Random data and a model as a trainee of the engine; evaluation costs nothing."""

    def __init__(self, model, x, y, batch_size: int, steps: int):
        self.model, self.x, self.y, self.batch_size, self.steps = model, x, y, batch_size, steps
        self.rebuilds: dict = {}

    def batches(self, epoch: int) -> list:
        import torch

        generator = torch.Generator().manual_seed(epoch)
        return [torch.randint(len(self.x), (self.batch_size,), generator=generator) for _ in range(self.steps)]

    def loss(self, model, samples, epoch: int):
        from torch.nn.functional import cross_entropy

        return cross_entropy(model(self.x[samples]).flatten(0, -2), self.y[samples].flatten(), reduction="sum")

    def evaluate(self) -> dict:
        return {"loss": 0.0}

    def train_mode(self) -> None:
        self.model.train()


def transformer(steps: int, batch_size: int = 64) -> Workload:
    """4 layers, width 256, 128 tokens: about 3 million parameters."""
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.Embedding(512, 256), nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(256, 512)
    )
    tokens = torch.randint(512, (256, 129))
    return Workload(model, tokens[:, :-1], tokens[:, 1:], batch_size, steps)


def small_cnn(steps: int) -> Workload:
    """The pooled network of the smartwatch study, global batch 64."""
    import torch

    from rootstock.tasks.activity.models import PooledConvNet
    from rootstock.tasks.activity.presets import PRESETS

    model = PooledConvNet(6, 7, **PRESETS["pooled"][1])
    return Workload(model, torch.randn(512, 6, 200), torch.randint(7, (512,)), 64, steps)


WORKLOADS = {
    "transformer, batch 64": transformer,
    "transformer, batch 16": partial(transformer, batch_size=16),
    "small CNN, batch 64": small_cnn,
}

if __name__ == "__main__":
    main()
