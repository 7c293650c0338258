#!/usr/bin/env python
"""Our students beside those of sentence-transformers' own trainer: equal layers, pairs, steps, learning rates and precision.

    pip install datasets==5.2.0                  the peer's trainer wants it
    python benchmarks/distillation.py [STUDY]    (config/studies/distillation_quick_test.yaml)

The peer learns the teacher's vectors by MSE, then by multiple negatives ranking with the same temperature. By turns, three seeds, one
thread; CPU seconds of each phase without its data's preparation, recall on the test part by one and the same code. Each run is
kept as a line of --rows, and a second call goes on there.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rootstock.controller.planning import content_of_workflow, plan_content  # noqa: E402
from rootstock.engine.loop import fit  # noqa: E402
from rootstock.engine.progress import Context  # noqa: E402
from rootstock.engine.seeding import seed_step  # noqa: E402
from rootstock.job.prepare import prepare  # noqa: E402
from rootstock.study.paths import prepared  # noqa: E402
from rootstock.study.run import Run  # noqa: E402
from rootstock.tasks.distillation.sampling import pairs_of_epoch  # noqa: E402
from rootstock.tasks.distillation.specs import BaseSpec, FinetuneSpec  # noqa: E402
from rootstock.tasks.distillation.student import SentenceEncoder, Tokenizer, pretrained_student  # noqa: E402
from rootstock.tasks.distillation.text import Text  # noqa: E402
from rootstock.tasks.distillation.train import freeze, measure, open_data, start_projection  # noqa: E402
from rootstock.tasks.distillation.trainee import Encoder, General, Retrieval  # noqa: E402
from rootstock.tasks.distillation.vectors import Vectors  # noqa: E402

STUDENTS, SEEDS = ("no projection", "projection", "sentence-transformers"), (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default=str(ROOT / "config/studies/distillation_quick_test.yaml"))
    parser.add_argument("--rows", type=Path, default=Path("distillation.jsonl"))
    parser.add_argument(
        "--run", type=json.loads, help="one of them: student, seed and perhaps other settings of phase2"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.run:
        print(json.dumps(run(given.study, given.run)))
    else:
        table(given.study, given.rows)


def table(study: str, rows: Path) -> None:
    runs = {student: [] for student in STUDENTS}
    for seed in SEEDS:
        for student in STUDENTS:
            runs[student].append(kept(study, {"student": student, "seed": seed}, rows))
    print(
        f"\n{Path(study).stem}: teacher's R@1 {100 * runs[STUDENTS[0]][0]['teacher']:.1f} %; {len(SEEDS)} seeds: mean ± sd"
    )
    print(
        "| student | R@1 after phase 1, % | after phase 2, % | CPU s, phase 1 | phase 2 | texts a CPU s | MB |\n|"
        + "---|" * 7
    )
    for student, found in runs.items():
        cells = [spread([100 * row[name] for row in found]) for name in ("first", "second")]
        cells += [spread([row[name] for row in found]) for name in ("seconds_1", "seconds_2")]
        rate = statistics.median(row["texts"] / (row["seconds_1"] + row["seconds_2"]) for row in found)
        print(f"| {student} | {' | '.join(cells)} | {rate:.0f} | {max(row['mb'] for row in found):.0f} |")
    peer = [row["second"] for row in runs[STUDENTS[-1]]]
    for student in STUDENTS[:-1]:
        ratios = [row["second"] / other for row, other in zip(runs[student], peer, strict=True)]
        print(f"{student}: R@1 {' '.join(f'{one:.3f}' for one in ratios)} × the peer's of the same seed")


def kept(study: str, one: dict[str, Any], rows: Path) -> dict[str, Any]:
    """The row of a run: read where it is kept, else of a process of its own."""
    one = one | {"study": Path(study).stem}
    for line in rows.read_text().splitlines() if rows.exists() else ():
        if one.items() <= (row := json.loads(line)).items():
            return row
    command = [sys.executable, __file__, study, "--run", json.dumps(one)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    line = done.stdout.splitlines()[-1]
    print(line, flush=True)
    with rows.open("a") as file:
        file.write(line + "\n")
    return json.loads(line)


def run(study: str, one: dict[str, Any]) -> dict[str, Any]:
    """One student, trained in both phases and measured after each."""
    plan = plan_content(content_of_workflow([study], None))
    for artefact in sorted(plan.artefacts.values(), key=lambda artefact: artefact.name.startswith("teacher")):
        prepare(plan.study.task, artefact.spec, prepared(artefact.name))
    fine = next(one.spec for one in plan.fine_tunes if one.spec.trains)
    base = plan.bases[fine.base]
    keeps = base.spec.student.projection_hidden_dim if one["student"] == "projection" else None
    shape = base.spec.student.model_copy(update={"projection_hidden_dim": keeps})
    spec = base.spec.model_copy(update={"student": shape, "seed": one["seed"]})
    second = fine.model_copy(update={"seed": one["seed"]} | one.get("phase2", {}))
    text, vectors = open_data(base.data)
    seed_step(spec.seed, 0)
    model, tokenizer = pretrained_student(spec.student, spec.max_length, vectors.dimension)
    model.tokenizer = tokenizer
    freeze(model, spec.freeze_word_embeddings)
    ways = PEER if one["student"] == STUDENTS[-1] else OURS
    found: dict[str, Any] = {"texts": 0}
    for number, (way, phase) in enumerate(zip(ways, (spec, second), strict=True), start=1):
        encoder = Encoder(
            model, tokenizer, text, Context(torch.device("cpu"), run=Run(), say=lambda _: None), phase.precision
        )
        began = time.process_time()
        found["texts"] += way(encoder, vectors, phase)
        found[f"seconds_{number}"] = time.process_time() - began
        measured = measure(encoder, vectors, None)
        found |= {
            ("first", "second")[number - 1]: measured["test"]["recall_at_1"],
            "teacher": measured["teacher"]["recall_at_1"],
        }
    return one | found | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def our_first(encoder: Encoder, vectors: Vectors, spec: BaseSpec) -> int:
    phase = General(encoder, vectors, spec, spec.max_samples_per_dataset, None, None)
    if encoder.model.projection is not None:
        start_projection(encoder.model, encoder, vectors, phase.train)
    fit(phase, spec, encoder.context)
    return 2 * spec.max_epochs * sum(len(batch) for batch in phase.batches(1))


def our_second(encoder: Encoder, vectors: Vectors, spec: FinetuneSpec) -> int:
    phase = Retrieval(encoder, vectors, spec, None, spec.max_samples, None)
    fit(phase, spec, encoder.context)
    return 2 * spec.max_epochs * sum(len(batch) for batch in phase.batches(1))


def peer_first(encoder: Encoder, vectors: Vectors, spec: BaseSpec) -> int:
    """MSE to the teacher's vectors, of the queries and passages of the same pairs; a step has the texts of as many pairs."""
    from sentence_transformers.sentence_transformer.losses import MSELoss

    pairs = chosen(encoder.text, spec, spec.max_samples_per_dataset, None)
    columns: dict[str, list] = {"sentence": [], "label": []}
    for lines, array, place in (
        (encoder.text.queries, vectors.queries, 0),
        (encoder.text.passages, vectors.passages, 1),
    ):
        columns["sentence"] += lines.take(pairs[:, place])
        columns["label"] += array[pairs[:, place]].astype("float32").tolist()
    return trained(encoder, columns, MSELoss, spec, 2 * spec.batch_size)


def peer_second(encoder: Encoder, vectors: Vectors, spec: FinetuneSpec) -> int:
    """A query's passage among those of its batch."""
    from functools import partial

    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    pairs = chosen(encoder.text, spec, None, spec.max_samples)
    columns = {"anchor": encoder.text.queries.take(pairs[:, 0]), "positive": encoder.text.passages.take(pairs[:, 1])}
    ranking = partial(MultipleNegativesRankingLoss, scale=1 / (spec.temperature or 1.0))
    return 2 * trained(encoder, columns, ranking, spec, spec.batch_size or 1)


OURS, PEER = (our_first, our_second), (peer_first, peer_second)


def chosen(text: Text, spec: BaseSpec | FinetuneSpec, most_per_dataset: int | None, most: int | None) -> Any:
    """The pairs [N, 2] of the first epoch of ours."""
    train = text.pairs_of("train")
    numbers = pairs_of_epoch(train, text.pair_dataset[train], most_per_dataset, most, spec.seed, 1)
    return text.pairs[numbers]


def trained(encoder: Encoder, columns: dict, loss: Any, spec: BaseSpec | FinetuneSpec, batch_size: int) -> int:
    """By sentence-transformers' trainer, as its documentation does it; the student's weights are trained in place."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        model = as_theirs(encoder.model, encoder.model.tokenizer, folder)
        arguments = SentenceTransformerTrainingArguments(
            folder, num_train_epochs=spec.max_epochs, per_device_train_batch_size=batch_size, learning_rate=spec.lr,
            warmup_steps=spec.warmup_steps, lr_scheduler_type="linear", weight_decay=spec.weight_decay,
            max_grad_norm=spec.gradient_clip, bf16=spec.precision == "bf16", seed=spec.seed, use_cpu=True, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_dict(columns)
        SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss(model)).train()
        copy = dict(model[0].auto_model.named_parameters())
        with torch.no_grad():
            for name, parameter in encoder.model.transformer.named_parameters():
                parameter.copy_(copy[name])
    return spec.max_epochs * len(data)


def as_theirs(model: SentenceEncoder, tokenizer: Tokenizer, folder: str) -> Any:
    """The same student as sentence-transformers has it: transformer, mean, unit length; frozen where ours is."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    model.transformer.save_pretrained(folder)
    tokenizer.tokenizer.save_pretrained(folder)
    transformer = Transformer(folder, max_seq_length=tokenizer.max_length)
    theirs = SentenceTransformer(modules=[transformer, Pooling(model.width, "mean"), Normalize()], device="cpu")
    frozen = {name for name, parameter in model.transformer.named_parameters() if not parameter.requires_grad}
    for name, parameter in transformer.auto_model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return theirs


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main()
