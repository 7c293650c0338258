#!/usr/bin/env python
"""How much time prepared vectors save, compared with the same training with the teacher in its loop.

    make run STUDY=config/studies/distillation.yaml ARGS="--until prepare"
    .venv/bin/python benchmarks/teacher_in_the_loop.py config/studies/distillation.yaml

Steps of phase 1 that read the vectors from disk alternate with steps that compute them; medians, scaled to the study's
epochs. The teacher computes as it did when the vectors were prepared. The cost of preparing them, once for all studies,
is shown too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow/scripts"))

import numpy as np
import torch

from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.engine.loop import PRECISIONS
from rootstock.engine.optimizers import adamw
from rootstock.engine.progress import Context
from rootstock.tasks.distillation.student import pretrained_student
from rootstock.tasks.distillation.teacher import load_teacher
from rootstock.tasks.distillation.train import freeze, open_data
from rootstock.tasks.distillation.trainee import Encoder, General

STEPS = 15


class TeacherInTheLoop(General):
    """Phase 1 with targets computed in every step."""

    teacher = None

    def targets(self, queries: np.ndarray, passages: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(self.device.type, enabled=False):
            texts = self.text.queries.take(queries) + self.text.passages.take(passages)
            vectors = self.teacher.encode(
                texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False, batch_size=64
            )
        return vectors[: len(queries)].float().clone(), vectors[len(queries) :].float().clone()


def main(study: str) -> None:
    plan = plan_content(content_of_workflow([study], None))
    torch.set_num_threads(plan.study.run.threads)
    training = next(iter(plan.bases.values()))
    text, vectors = open_data(training.data)
    spec, identity = training.spec, training.spec.data.teacher
    teacher = load_teacher(identity.model, identity.max_length, identity.precision, torch.device("cpu"))
    step, steps = {}, 0
    for kind in (General, TeacherInTheLoop):
        model, tokenizer = pretrained_student(spec.student, spec.max_length, vectors.dimension)
        freeze(model, spec.freeze_word_embeddings)
        encoder = Encoder(model, tokenizer, text, Context(torch.device("cpu")), spec.precision)
        phase = kind(encoder, vectors, spec, spec.max_samples_per_dataset, None, spec.student.mrl_dimensions)
        phase.teacher = teacher
        steps = sum(len(phase.batches(epoch)) for epoch in range(1, spec.max_epochs + 1))
        step[kind] = stepper(phase, adamw(model, spec.lr, spec.weight_decay))
    batches = phase.batches(1)[: STEPS + 1]
    seconds = {kind: [] for kind in step}
    for number, batch in enumerate(batches):
        for kind, take in step.items():
            elapsed = timed(lambda take=take, batch=batch: take(batch))
            seconds[kind] += [elapsed] if number else []  # the first one warms up
    cached, in_loop = (steps * median(values) for values in seconds.values())
    texts = (
        np.linspace(0, len(text.passages) - 1, 512).astype(int),
        np.linspace(0, len(text.queries) - 1, 512).astype(int),
    )
    preparing = sum(
        len(lines)
        / len(rows)
        * timed(lambda lines=lines, rows=rows: teacher.encode(lines.take(rows), show_progress_bar=False))
        for lines, rows in zip((text.passages, text.queries), texts, strict=True)
    )
    print(f"phase 1 of {study}: {steps} steps, {spec.max_epochs} epochs, {torch.get_num_threads()} thread(s)")
    print(f"  vectors from disk    {cached:7.0f} s")
    print(f"  teacher in the loop  {in_loop:7.0f} s   {in_loop / cached:.2f}×")
    print(f"  preparing all {len(text.passages) + len(text.queries)} vectors once: {preparing:.0f} s")
    trainings = len(plan.bases)
    shared = (in_loop * trainings) / (cached * trainings + preparing)
    print(f"  with it, for the {trainings} phase-1 training(s) of this study: {shared:.2f}×")


def stepper(phase: General, optimizer: torch.optim.Optimizer) -> Callable[[torch.Tensor], None]:
    """One optimizer step on a batch, as the engine takes it."""
    precision = PRECISIONS[phase.spec.precision]
    phase.model.train()

    def take(batch: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = phase.loss(phase.model, batch, 1)
        (loss / len(batch)).backward()
        optimizer.step()

    return take


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
