"""A user's own pairs, `.jsonl` or `.parquet`: query, positive and optional negatives."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...study.problems import Refusal


class Pair(NamedTuple):
    """A query, a passage that answers it, and passages that do not."""

    query: str
    positive: str
    negatives: tuple[str, ...]


def read_pairs(file: Path) -> Iterator[Pair]:
    """Yield the pairs of one file. Raise `Refusal` with the line or row at fault."""
    rows = _jsonl_rows(file) if file.suffix == ".jsonl" else _parquet_rows(file)
    found = False
    for where, row in rows:
        found = True
        yield _pair(row, where)
    if not found:
        raise Refusal(f"{file}: holds no pair; give lines of query and positive")


def _pair(row: Any, where: str) -> Pair:
    if not isinstance(row, dict):
        raise Refusal(f"{where}: is not an object with query and positive")
    for name in ("query", "positive"):
        text = row.get(name)
        if not isinstance(text, str) or not text.strip():
            raise Refusal(f"{where}: {name} is {'missing' if text is None else 'not a text, or empty'}; mend it")
    negatives = row.get("negatives")
    negatives = [] if negatives is None else negatives
    if isinstance(negatives, str) or not isinstance(negatives, Iterable):
        raise Refusal(f'{where}: negatives is not a list of texts; write ["…", "…"]')
    negatives = tuple(negatives)
    if not all(isinstance(text, str) and text.strip() for text in negatives):
        raise Refusal(f"{where}: negatives holds what is not a text, or empty; mend it")
    return Pair(row["query"], row["positive"], negatives)


def _jsonl_rows(file: Path) -> Iterator[tuple[str, Any]]:
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{file}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise Refusal(f"{where}: is not UTF-8 text; convert the file") from None
            if not text.strip():
                continue
            try:
                yield where, json.loads(text)
            except (json.JSONDecodeError, RecursionError):
                raise Refusal(f"{where}: is not one JSON object on one line; mend it") from None


def _parquet_rows(file: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{file} row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise Refusal(f"{file}: cannot be read as parquet ({str(error).splitlines()[0][:120]}); check it") from None
