"""What a paper takes from a study: tables for other programs, LaTeX, and a paragraph of methods."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..store.files import write_atomically
from ..study import paths
from ..study.plan import Plan
from .answer import chosen
from .comparisons import Comparison
from .latex import tables_tex, values_tex
from .methods import methods_text
from .question import Question
from .tables import comparison_table, gains_table

FILES = tuple(Path(path).name for path in paths.PAPERS)


def write_papers(
    folder: Path,
    plan: Plan,
    summary: pd.DataFrame,
    question: Question | None,
    comparisons: Sequence[Comparison],
    own: Sequence[str] = (),
) -> None:
    """Write `FILES` into `folder`, each atomically; `own` are the task's sentences for the methods. If nothing is
    compared, the LaTeX files say so, and the csv files hold only their headers."""
    main = chosen(comparisons, question) if question else None
    contents = {
        "comparisons.csv": comparison_table(comparisons).to_csv(index=False),
        "gains.csv": gains_table(comparisons, question).to_csv(index=False),
        "tables.tex": tables_tex(comparisons, question),
        "values.tex": values_tex(comparisons, question, plan.study.name, main),
        "methods.txt": methods_text(plan, question, comparisons, own),
    }
    write_atomically(folder / "summary.parquet", as_parquet(summary))
    for name, text in contents.items():
        write_atomically(folder / name, text.encode())


def as_parquet(table: pd.DataFrame) -> bytes:
    """A table as parquet. A column of several types, which parquet cannot hold, becomes text, except missing values."""
    plain = table.copy()
    for name in plain:
        if pd.api.types.is_object_dtype(plain[name]) and len({type(v) for v in plain[name] if not pd.isna(v)}) > 1:
            plain[name] = plain[name].map(lambda value: None if pd.isna(value) else str(value))
    with io.BytesIO() as file:
        plain.to_parquet(file, index=False)
        return file.getvalue()
