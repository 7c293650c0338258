#!/usr/bin/env python
"""Compare our language model with a GPT-2 as nanoGPT trains it: equal text, batches, size, warm-up and decay to zero.

    python benchmarks/language_model.py loss     each at its best learning rate of a grid, which seed 0's val part chooses; then three
                                                 seeds, the models by turns. Loss of the val and the test part
    python benchmarks/language_model.py speed    tokens a CPU second by turns, at each precision, compiled or not
    python benchmarks/language_model.py run '{"model": "muon", "lr": 0.004, "seed": 0, "size": "2.7M"}'    one of them

One thread. `loss` keeps each run as a line of --rows (language_model.jsonl in the working folder), and a second call continues there.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from plain_gpt import PlainGPT, plain_steps
from torch import nn

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rootstock.controller.planning import content_of_workflow, plan_content  # noqa: E402
from rootstock.engine.loop import PRECISIONS, fit  # noqa: E402
from rootstock.engine.progress import Context  # noqa: E402
from rootstock.job.prepare import prepare  # noqa: E402
from rootstock.study.paths import prepared  # noqa: E402
from rootstock.study.run import Run  # noqa: E402
from rootstock.tasks.language_model.measure import inputs_and_targets  # noqa: E402
from rootstock.tasks.language_model.model import LanguageModel  # noqa: E402
from rootstock.tasks.language_model.settings import Model  # noqa: E402
from rootstock.tasks.language_model.shards import Prepared, open_prepared  # noqa: E402
from rootstock.tasks.language_model.specs import BaseSpec  # noqa: E402
from rootstock.tasks.language_model.trainee import TextTrainee  # noqa: E402

STUDY = ROOT / "config/studies/language_model.yaml"
SIZES = {
    "4.5M": {"d_model": 256, "n_heads": 4, "n_layers": 4, "d_ff": 768},  # the study's own
    "2.7M": {"d_model": 192, "n_heads": 4, "n_layers": 4, "d_ff": 576},
    "1.2M": {"d_model": 128, "n_heads": 4, "n_layers": 3, "d_ff": 384},
}
MODELS = ("muon", "adamw", "plain GPT")
STEPS, WARMUP, SEEDS, RATES, EVALUATED = 300, 30, (0, 1, 2), (0.002, 0.004, 0.008), 65_536
TIMED, WARM, REPEATS = 8, 3, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("loss", "speed", "run"))
    parser.add_argument("one", nargs="?", type=json.loads)
    parser.add_argument("--rows", type=Path, default=Path("language_model.jsonl"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["2.7M", "1.2M"])
    parser.add_argument("--rates", nargs="+", type=float, help="a grid of learning rates that does not grow")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "run":
        print(json.dumps(run(given.one)))
    elif given.what == "speed":
        for size in given.sizes:
            speed(size)
    else:
        for size in given.sizes:
            loss(size, given.rows, given.models, given.rates)


def loss(size: str, rows: Path, models: Sequence[str], rates: list[float] | None) -> None:
    """Print a table of each model at its best learning rate."""
    best = {model: best_rate({"model": model, "seed": SEEDS[0], "size": size}, rates, rows) for model in models}
    runs = {model: [] for model in models}
    for seed in SEEDS:
        for model in models:
            runs[model].append(kept({"model": model, "lr": best[model], "seed": seed, "size": size}, rows))
    of_peer = statistics.mean(row["val"] for row in runs["plain GPT"])
    print(f"\n{size}, {STEPS} steps of {runs['plain GPT'][0]['tokens'] // STEPS} tokens, {len(SEEDS)} seeds: mean ± sd")
    print(
        "| model | parameters | lr | val, nats | test, nats | test, bits a byte | val ÷ plain GPT's | MB |\n|"
        + "---|" * 8
    )
    for model, found in runs.items():
        cells = [spread([row[name] for row in found]) for name in ("val", "test", "bits")]
        ratio = statistics.mean(row["val"] for row in found) / of_peer
        most = max(row["mb"] for row in found)
        print(
            f"| {model} | {found[0]['parameters']:,} | {best[model]:g} | {' | '.join(cells)} | {ratio:.3f} | {most:.0f} |"
        )


def best_rate(one: dict[str, Any], rates: list[float] | None, rows: Path) -> float:
    """The best rate of a grid. The default grid grows by factors of two while its best lies at an edge."""
    losses = {lr: kept(one | {"lr": lr}, rows)["val"] for lr in rates or RATES}
    while not rates and (best := min(losses, key=losses.__getitem__)) in (edges := {min(losses): 0.5, max(losses): 2}):
        following = best * edges[best]
        losses[following] = kept(one | {"lr": following}, rows)["val"]
    return min(losses, key=losses.__getitem__)


def kept(one: dict[str, Any], rows: Path) -> dict[str, Any]:
    """The row of a run, read if it was kept, otherwise made in a process of its own."""
    for line in rows.read_text().splitlines() if rows.exists() else ():
        if one.items() <= (row := json.loads(line)).items():
            return row
    print(f"{one}: ", end="", flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "run", json.dumps(one)], stdout=subprocess.PIPE, text=True, check=True
    )
    row = json.loads(done.stdout.splitlines()[-1])
    print(f"val {row['val']:.4f}, {row['cpu']:.0f} CPU s", flush=True)
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def run(one: dict[str, Any]) -> dict[str, Any]:
    """Train one model. Entries of `one` other than model and size change its spec."""
    text, spec = material(one)
    trainee = trainee_of(text, spec, one["model"])
    began = time.process_time()
    fitted = fit(trainee, spec, context(is_compiled=True))
    cpu = time.process_time() - began
    test = text.stream(text.domains, "test")
    found = trainee.measure(test, EVALUATED)["loss"]
    return one | {
        "val": fitted.history[-1]["val_loss"], "test": found, "bits": found / math.log(2) * tokens_a_byte(text),
        "parameters": sum(p.numel() for p in trainee.model.parameters()),
        "tokens": spec.max_steps * spec.batch_size * spec.model.context_length,
        "cpu": cpu, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def material(one: dict[str, Any]) -> tuple[Prepared, BaseSpec]:
    """The text, and the spec by which ours and the peer train."""
    plan = plan_content(content_of_workflow([str(STUDY)], None))
    for artefact in plan.artefacts.values():
        prepare(plan.study.task, artefact.spec, prepared(artefact.name))
    base = max(plan.bases.values(), key=lambda training: training.spec.max_steps)
    changes = {
        "max_steps": STEPS, "eval_every": STEPS, "warmup_steps": WARMUP, "schedule": "linear", "eval_tokens": EVALUATED,
        "optimizer": "muon" if one["model"] == "muon" else "adamw",
        "model": Model(**SIZES[one["size"]], context_length=base.spec.model.context_length),
    }  # fmt: skip
    changes |= {name: value for name, value in one.items() if name not in ("model", "size")}
    changes.setdefault("eval_every", changes["max_steps"])
    return open_prepared(base.data), base.spec.model_copy(update=changes)


def trainee_of(text: Prepared, spec: BaseSpec, model: str) -> TextTrainee:
    torch.manual_seed(spec.seed)
    streams = [text.stream(text.domains, split) for split in ("train", "val")]
    return TextTrainee(built(text, spec, model), text.tokenizer, *streams, spec, context())


def built(text: Prepared, spec: BaseSpec, model: str) -> nn.Module:
    if model != "plain GPT":
        return LanguageModel(text.vocab_size, spec.model)
    shape = spec.model
    return PlainGPT(text.vocab_size, shape.d_model, shape.n_heads, shape.n_layers, shape.d_ff, shape.context_length)


def speed(size: str) -> None:
    """Print tokens per CPU second: the median step of each turn, and medians over turns."""
    print(f"\n{size}: tokens a CPU second, medians of {REPEATS} turns, least and most")
    print("| model | precision | compiled | tokens |\n|---|---|---|---|")
    for precision, is_compiled in (("float32", False), ("bf16", False), ("bf16", True)):
        rates = {model: [] for model in MODELS}
        for repeat in range(REPEATS):
            for model in MODELS if repeat % 2 == 0 else reversed(MODELS):
                rates[model].append(
                    rate({"model": model, "size": size, "precision": precision, "lr": 0.001}, is_compiled)
                )
        for model, found in rates.items():
            print(
                f"| {model} | {precision} | {is_compiled} | {statistics.median(found):.0f} ({min(found):.0f}–{max(found):.0f}) |",
                flush=True,
            )


def rate(one: dict[str, Any], is_compiled: bool) -> float:
    text, spec = material(one | {"max_steps": WARM + TIMED, "eval_every": WARM + TIMED, "eval_tokens": 128})
    trainee = trainee_of(text, spec, one["model"])
    began: list[float] = []
    if one["model"] == "plain GPT":
        model = torch.compile(trainee.model) if is_compiled else trainee.model
        plain_steps(model, pieces(trainee, began), spec.lr, PRECISIONS[spec.precision])
    else:
        trainee.loss = stamped(trainee.loss, began)
        fit(trainee, spec, context(is_compiled))
    steps = [after - before for before, after in zip(began[WARM:], began[WARM + 1 :], strict=False)]
    return spec.batch_size * spec.model.context_length / statistics.median(steps)


def pieces(trainee: TextTrainee, began: list[float]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for samples in trainee.batches(1):
        began.append(time.process_time())
        yield inputs_and_targets(trainee.train, samples, trainee.context_length, trainee.device)


def stamped(loss: Any, began: list[float]) -> Any:
    def of_step(*arguments: Any) -> torch.Tensor:
        began.append(time.process_time())
        return loss(*arguments)

    return of_step


def tokens_a_byte(text: Prepared) -> float:
    shards = [shard for domain in text.domains for shard in text.manifest["domains"][domain]["test"]]
    return sum(shard["tokens"] for shard in shards) / sum(shard["bytes"] for shard in shards)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def context(is_compiled: bool = False) -> Context:
    return Context(torch.device("cpu"), run=Run(compile=is_compiled), say=lambda _: None)


if __name__ == "__main__":
    main()
