#!/usr/bin/env python
"""Compare our students with those of sentence-transformers' trainer: equal layers, pairs, steps, rates and precision.

    pip install datasets==5.2.0                  the peer's trainer needs it
    python benchmarks/distillation.py [STUDY]    (config/studies/distillation_quick_test.yaml)

The peer learns the teacher's vectors by MSE, then by multiple negatives ranking with the same temperature. Runs
alternate on one thread. CPU seconds of each phase exclude the preparation of data; the same code measures recall on
the test set. Each run is kept as a line of --rows, and a second call continues there. The teacher's pass over the pairs
of phase 1 is measured on some of them. --phase2 '{"lr": 0.0003}' changes phase 2 of all students.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rootstock.controller.planning import content_of_workflow, plan_content  # noqa: E402
from rootstock.engine.loop import fit  # noqa: E402
from rootstock.engine.progress import Context  # noqa: E402
from rootstock.engine.seeding import seed_step  # noqa: E402
from rootstock.job.prepare import prepare  # noqa: E402
from rootstock.study.paths import prepared  # noqa: E402
from rootstock.study.plan import BaseTraining  # noqa: E402
from rootstock.study.run import Run  # noqa: E402
from rootstock.tasks.distillation.sampling import pairs_of_epoch  # noqa: E402
from rootstock.tasks.distillation.specs import BaseSpec, FinetuneSpec  # noqa: E402
from rootstock.tasks.distillation.student import SentenceEncoder, Tokenizer, pretrained_student  # noqa: E402
from rootstock.tasks.distillation.teacher import load_teacher  # noqa: E402
from rootstock.tasks.distillation.text import Text  # noqa: E402
from rootstock.tasks.distillation.train import freeze, measure, open_data, start_projection  # noqa: E402
from rootstock.tasks.distillation.trainee import Encoder, General, Retrieval  # noqa: E402
from rootstock.tasks.distillation.vectors import Vectors  # noqa: E402

STUDENTS, TEACHER = ("no projection", "projection", "sentence-transformers"), "teacher"
PROJECTION = 768  # width
PASSED = 1024  # texts of each kind on which the teacher's pass is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default=str(ROOT / "config/studies/distillation_quick_test.yaml"))
    parser.add_argument("--rows", type=Path, default=Path("distillation.jsonl"))
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--phase2", type=json.loads, default={}, help="other settings of phase 2, as JSON")
    parser.add_argument("--run", type=json.loads, help="one of them: student, layers, seed, phase2")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.run:
        print(json.dumps(run(given.study, given.run)))
    else:
        table(given)


def table(given: argparse.Namespace) -> None:
    study, rows = given.study, given.rows
    plan = plan_content(content_of_workflow([study], None))
    shapes = [list(base.spec.student.layers or ()) for base in plan.bases.values()]
    teacher = kept(study, {"student": TEACHER}, rows)
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed in given.seeds:
        for layers, student in product(shapes, given.students):
            one = {"student": student, "layers": layers, "seed": seed, "phase2": given.phase2}
            runs.setdefault((str(layers), student), []).append(kept(study, one, rows))
    score = next(iter(runs.values()))[0]["teacher"]
    print(f"\n{Path(study).stem}: teacher's R@1 {100 * score:.1f} %; {len(given.seeds)} seed(s): mean ± sd")
    names = (
        "layers",
        "student",
        "R@1 after phase 1, %",
        "after phase 2, %",
        "CPU s, phase 1",
        "phase 2",
        "texts a CPU s",
        "MB",
    )
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for (layers, student), found in runs.items():
        cells = [spread([100 * row[name] for row in found]) for name in ("first", "second")]
        cells += [spread([row[name] for row in found]) for name in ("seconds_1", "seconds_2")]
        rate = statistics.median(row["texts"] / (row["seconds_1"] + row["seconds_2"]) for row in found)
        print(f"| {layers} | {student} | {' | '.join(cells)} | {rate:.0f} | {max(row['mb'] for row in found):.0f} |")
    for (layers, student), found in runs.items():
        if student != STUDENTS[-1] and (layers, STUDENTS[-1]) in runs:
            compare(f"{layers}, {student}", found, runs[layers, STUDENTS[-1]])
    count_teacher(runs, teacher["seconds"])


def compare(name: str, ours: list[dict[str, Any]], peers: list[dict[str, Any]]) -> None:
    """The difference in R@1 after phase 2, paired with the peer of the same seed, over seeds."""
    pairs = [(one["second"], other["second"]) for one, other in zip(ours, peers, strict=True)]
    points = [100 * (a - b) for a, b in pairs]
    ratio = statistics.mean(a / b for a, b in pairs)
    print(f"{name}: R@1 {statistics.mean(points):+.2f} points of the peer's, {ratio:.3f} ×", end="")
    if len(points) > 1:
        half = t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
        print(f"; 95 % interval {statistics.mean(points) - half:+.2f} to {statistics.mean(points) + half:+.2f}", end="")
    print()


def count_teacher(runs: dict[tuple[str, str], list[dict[str, Any]]], passed: float) -> None:
    """Phase 1 of all students plus the teacher's pass over their pairs: one pass for all of ours, one for each peer."""
    seconds = {name: statistics.mean(row["seconds_1"] for row in found) for name, found in runs.items()}
    totals = {}
    for student in dict.fromkeys(student for _, student in runs):
        own = [value for (_, name), value in seconds.items() if name == student]
        totals[student] = sum(own) + passed * (len(own) if student == STUDENTS[-1] else 1)
        print(
            f"{student}: phase 1 of {len(own)} student(s), teacher's pass of {passed:.0f} s counted: {totals[student]:.0f} CPU s",
            end="",
        )
        print(f"; {sum(own) + passed:.0f} with its vectors kept" if student == STUDENTS[-1] else "")
    if STUDENTS[-1] in totals:
        for student, total in totals.items():
            print(f"{student}: {total / totals[STUDENTS[-1]]:.2f} × the peer's")


def kept(study: str, one: dict[str, Any], rows: Path) -> dict[str, Any]:
    """The row of a run, read if it was kept, otherwise made in a process of its own."""
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
    if one["student"] == TEACHER:
        return one | {"seconds": passed_by_teacher(next(iter(plan.bases.values())))}
    bases = [base for base in plan.bases.values() if list(base.spec.student.layers or ()) == one["layers"]]
    base = bases[0]
    fine = next(tuned.spec for tuned in plan.fine_tunes if tuned.spec.trains and tuned.spec.base == base.hash)
    keeps = PROJECTION if one["student"] == "projection" else None
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


def passed_by_teacher(base: BaseTraining) -> float:
    """CPU seconds of the teacher for all texts of phase 1, extrapolated from the measured texts."""
    text, _ = open_data(base.data)
    spec, identity = base.spec, base.spec.data.teacher
    teacher = load_teacher(identity.model, identity.max_length, identity.precision, torch.device("cpu"))
    pairs, seconds = chosen(text, spec, spec.max_samples_per_dataset, None), 0.0
    for lines, place in ((text.queries, 0), (text.passages, 1)):
        texts = lines.take(pairs[:PASSED, place])
        began = time.process_time()
        teacher.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        seconds += (time.process_time() - began) * len(pairs) / len(texts)
    return seconds


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
    """MSE to the teacher's vectors of the same queries and passages; a step has the texts of as many pairs as ours."""
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
    """Rank a query's passage among those of its batch."""
    from functools import partial

    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    pairs = chosen(encoder.text, spec, None, spec.max_samples)
    columns = {"anchor": encoder.text.queries.take(pairs[:, 0]), "positive": encoder.text.passages.take(pairs[:, 1])}
    ranking = partial(MultipleNegativesRankingLoss, scale=1 / (spec.temperature or 1.0))
    return 2 * trained(encoder, columns, ranking, spec, spec.batch_size or 1)


OURS, PEER = (our_first, our_second), (peer_first, peer_second)


def chosen(text: Text, spec: BaseSpec | FinetuneSpec, most_per_dataset: int | None, most: int | None) -> Any:
    """The pairs [N, 2] of the first epoch of our training."""
    train = text.pairs_of("train")
    numbers = pairs_of_epoch(train, text.pair_dataset[train], most_per_dataset, most, spec.seed, 1)
    return text.pairs[numbers]


def trained(encoder: Encoder, columns: dict, loss: Any, spec: BaseSpec | FinetuneSpec, batch_size: int) -> int:
    """Train with sentence-transformers' trainer as documented there, and update the student's weights in place."""
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
    """The same student in sentence-transformers: transformer, mean, unit length; the same parameters are frozen."""
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
    sd = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{sd}"


if __name__ == "__main__":
    main()
