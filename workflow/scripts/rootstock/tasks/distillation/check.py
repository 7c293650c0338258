"""Find pairs and models that trainings would reject, before the first training runs: open each file, and build each
student that is on this machine once to let it encode a text."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...study import paths
from ...study.parts import Checked
from ...study.plan import Plan
from ...study.problems import Problems, refusals
from .dataset import pair_files
from .pairs import read_pairs
from .specs import BaseSpec, PreparedSpec, Student
from .student import pretrained_student
from .text import SPLITS, Text
from .train import open_data


def check(plan: Plan, missing: Collection[str]) -> Checked:
    """Open what is prepared; of pairs that are not prepared yet, read the first of each file."""
    table: list[str] = []
    return Checked(refusals([*_of_data(plan, missing, table), *_of_students(plan, table)]), table)


def _of_data(plan: Plan, missing: Collection[str], table: list[str]) -> Iterator[Callable[[], Any]]:
    for name, artefact in plan.artefacts.items():
        folder, spec = paths.prepared(name), artefact.spec
        assert isinstance(spec, PreparedSpec)
        if folder not in missing:
            yield partial(_open, folder, spec, table)
        elif spec.path and not spec.teacher:
            for file in pair_files(spec.path, "data.path", Problems()):
                yield lambda file=file: next(read_pairs(file))


def _open(folder: str, spec: PreparedSpec, table: list[str]) -> None:
    text = open_data(folder)[0] if spec.teacher else Text(Path(folder))
    counts = ", ".join(f"{len(text.pairs_of(split))} pairs to {split}" for split in SPLITS)
    table.append(f"{folder}: {counts}")


def _of_students(plan: Plan, table: list[str]) -> Iterator[Callable[[], Any]]:
    specs = [training.spec for training in plan.bases.values()]
    asked = [(s.student, s.max_length, s.data.teacher.dimension) for s in specs if isinstance(s, BaseSpec)]
    for student, max_length, dimension in dict.fromkeys(asked):
        is_here = student.model.version is not None or student.model.content is not None
        if is_here and (dimension or not student.projection_hidden_dim):
            yield partial(_build, student, max_length, dimension)
        else:
            table.append(
                f"{student.model.name}: not built here, because it or its teacher is fetched when it is needed"
            )


def _build(student: Student, max_length: int, dimension: int | None) -> None:
    model, model.tokenizer = pretrained_student(student, max_length, dimension)
    model.eval().encode(["a text"])
