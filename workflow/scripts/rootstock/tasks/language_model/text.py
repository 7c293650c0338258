"""Documents of a folder: paragraphs of .txt, lines of .jsonl, rows of .parquet; and which split each belongs to."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...study.fields import is_text
from ...study.identity import uniform
from ...study.problems import Refusal
from .dataset import Document, files_by_domain
from .ontologies import read_ontology
from .settings import SPLITS
from .specs import PreparedSpec

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 256  # of a parquet file: one row may be a book
READ_AT_ONCE = 2**20  # bytes; otherwise a whole row group is read, which may be the whole file

_NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def documents(spec: PreparedSpec, domain: str) -> Iterator[Document]:
    """Every document of a domain, in a stable order."""
    if spec.path is None:
        yield from read_ontology(domain)
        return
    for file in files_by_domain(Path(spec.path)).get(domain, ()):
        yield from (Document(text, text) for text in read_texts(file) if text.strip())


def read_texts(file: Path) -> Iterator[str]:
    """Yield the texts of one file. In a .txt, an empty line ends a document. Raise `Refusal` where a file is faulty."""
    try:
        match file.suffix:
            case ".txt":
                yield from _paragraphs(file)
            case ".jsonl":
                yield from _json_lines(file)
            case ".parquet":
                yield from _parquet_rows(file)
    except UnicodeDecodeError as error:
        raise Refusal(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from None


def split_of(document: Document, shares: tuple[float, float, float]) -> str:
    """`train`, `val` or `test`, by a hash of the normalised key: documents that say the same stay together."""
    normal = _NO_LETTER_OR_DIGIT.sub(" ", document.key.casefold()).strip()
    position = uniform(normal)
    return SPLITS[0 if position < shares[0] else 1 if position < shares[0] + shares[1] else 2]


def _paragraphs(file: Path) -> Iterator[str]:
    lines: list[str] = []
    with open(file, encoding="utf-8") as text:
        for line in text:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines).strip()
                lines = []
    if lines:
        yield "".join(lines).strip()


def _json_lines(file: Path) -> Iterator[str]:
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError, RecursionError):
                text = None
            if not isinstance(text, str):
                raise Refusal(f'{file}:{number}: is not a JSON object with a text field; write {{"text": "…"}}')
            if not is_text(text):
                raise Refusal(
                    f"{file}:{number}: has half a character (a lone \\ud800 to \\udfff); mend it or remove it"
                )
            yield text


def _parquet_rows(file: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file, buffer_size=READ_AT_ONCE, pre_buffer=False) as table:
            _check_column(file, table.schema_arrow)
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=["text"]):
                yield from (value for value in batch.column(0).to_pylist() if value is not None)
    except MemoryError:  # pyarrow's is an ArrowException too
        raise Refusal(f"{file}: unpacks to more than the memory there is; write it anew with shorter texts") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise Refusal(f"{file}: is not a parquet file ({str(error).splitlines()[0][:120]})") from None


def _check_column(file: Path, schema: "pyarrow.Schema") -> None:
    from pyarrow import types

    if "text" not in schema.names:
        raise Refusal(f"{file}: has no column text; it has {', '.join(schema.names)}")
    kind = schema.types[schema.names.index("text")]
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise Refusal(f"{file}: its column text is of type {kind}; write it as string")
