"""What a student is compared with: the teacher's scores on the same text, and how fast either is on this machine."""

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
CPU = torch.device("cpu")  # the job asks for no GPU: trainings have them


def measure_baseline(spec: BaselineSpec, folder: str) -> list[dict[str, Any]]:
    """The teacher's scores by its prepared vectors, and sentences a second of teacher and student.

    Speed depends on the architecture, not on what was learned, so the student is measured as phase 1 starts.
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
    """Sentences a second of teacher and student, from the seconds that each took in each turn: medians; how many times as fast
    the student is, turn by turn: median, least and most."""
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
    """Seconds of teacher and student for the same held-out passages, by turns, so that a busy machine slows both; each begins
    every other turn. The first turn warms up and is left out."""
    identity = spec.data.teacher
    with TemporaryDirectory() as beside:
        student = sentence_transformer(*pretrained_student(spec.student, spec.max_length, dimension), Path(beside))
    both = [load_teacher(identity.model, spec.max_length, "float32", CPU), student.to(CPU)]  # whatever it prepared in
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
