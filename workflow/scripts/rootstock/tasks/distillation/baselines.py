"""What a student is compared with: the teacher's scores on the same text, and the speed of both on this machine."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from ...study.identity import short_digest
from .export import sentence_transformer
from .retrieval import retrieval
from .specs import BaselineSpec
from .student import pretrained_student
from .teacher import load_teacher
from .text import Text
from .train import open_data

TEXTS = 256
TURNS = 9
BATCH = 32
CPU = torch.device("cpu")  # the job asks for no GPU, because trainings need them


def measure_baseline(spec: BaselineSpec, folder: str) -> list[dict[str, Any]]:
    """Score the teacher by its prepared vectors, and measure sentences per second of teacher and student.

    Speed depends on the architecture, not on what was learned, so the student is measured in its state before phase 1.
    """
    text, vectors = open_data(folder)
    query_rows, passage_rows = text.queries_of("test"), text.passages_of("test")
    queries, passages = (
        torch.from_numpy(np.asarray(array[rows], dtype=np.float32))
        for array, rows in ((vectors.queries, query_rows), (vectors.passages, passage_rows))
    )
    scores = retrieval(queries, passages, query_rows, passage_rows, text.positives())
    seconds = seconds_by_turns(spec, text, vectors.dimension)
    common = {
        "student": short_digest([spec.student, spec.use_projection, spec.max_length]),
        "threads": torch.get_num_threads(),
    }
    return [common | scores | speeds(seconds, min(TEXTS, len(passage_rows)))]


def speeds(seconds: list[tuple[float, float]], texts: int) -> dict[str, Any]:
    """Median sentences per second of teacher and student, from the seconds that each took per turn, and the student's
    speed-up per turn: median, least and most."""
    teacher, student = zip(*seconds, strict=True)
    times = [a / b for a, b in seconds]
    return {
        "teacher_per_second": texts / median(teacher),
        "student_per_second": texts / median(student),
        "speed_up": median(times),
        "speed_up_range": [min(times), max(times)],
        "turns": len(times),
    }


def seconds_by_turns(spec: BaselineSpec, text: Text, dimension: int) -> list[tuple[float, float]]:
    """Seconds that teacher and student take for the same held-out passages, per turn. They alternate, so that a busy
    machine slows both, and each goes first in every other turn. The first turn is a warm-up and is dropped."""
    identity = spec.data.teacher
    with TemporaryDirectory() as beside:
        student = sentence_transformer(*pretrained_student(spec.student, spec.max_length, dimension), Path(beside))
    # The teacher computes in float32 here, whatever precision its vectors were prepared in.
    both = [load_teacher(identity.model, spec.max_length, "float32", CPU), student.to(CPU)]
    texts = text.passages.take(text.passages_of("test")[:TEXTS])
    turns = [_turn(both, texts, teacher_first=number % 2 == 0) for number in range(TURNS + 1)]
    return turns[1:]


def _turn(both: list[SentenceTransformer], texts: list[str], teacher_first: bool) -> tuple[float, float]:
    took = [_seconds(model, texts) for model in (both if teacher_first else reversed(both))]
    first, second = took
    return (first, second) if teacher_first else (second, first)


def _seconds(model: SentenceTransformer, texts: list[str]) -> float:
    started = time.perf_counter()
    model.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return time.perf_counter() - started
