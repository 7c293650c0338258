"""The teacher's vectors of a prepared text, computed once, block by block, and the hard negatives mined with them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from ...engine.device import pick_device
from ...engine.loop import PRECISIONS
from ...store.files import write_json
from ...study.identity import canonical, short_digest
from ...study.problems import Refusal
from ...study.run import Run
from .pretrained import locate
from .settings import MOST_NEGATIVES
from .specs import ModelIdentity, PreparedSpec
from .text import NONE, Lines, Text, write_array
from .vectors import read_vectors

BLOCK = 2048  # texts between two notes of how far we are
QUERIES_AT_ONCE = 512
NEVER = -2.0  # below every cosine
MARGIN = 0.95  # a negative scores below this share of the query's own passage (NV-Retriever, Moreira et al. 2024)


logging.disable_progress_bar()  # a job's log is not a terminal


def prepare_vectors(spec: PreparedSpec, folder: Path, run: Run, say: Callable[[str], None]) -> None:
    """Write what `Vectors` reads into `folder`, `manifest.json` last. Interrupted, it goes on where it was."""
    text_name = f"text_{short_digest(spec.text)}"
    text = Text(folder.parent / text_name)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = spec.teacher
    assert wanted is not None  # else there are no vectors to prepare
    torch.set_num_threads(run.threads)
    device = pick_device(run.device)
    teacher = load_teacher(wanted.model, wanted.max_length, wanted.precision, device)
    dimension = teacher.get_embedding_dimension()
    if wanted.dimension not in (None, dimension):
        raise Refusal(
            f"data.teacher_dim: {wanted.dimension} is not what {wanted.model.known_as} gives; it gives {dimension}"
        )
    assert dimension is not None  # known of every model that ends in a pooling
    for role, encode, lines in (
        ("queries", teacher.encode_query, text.queries),
        ("passages", teacher.encode_document, text.passages),
    ):
        embed(lines, encode, dimension, folder / f"{role}.npy", say)
    say(f"mining up to {MOST_NEGATIVES} hard negatives of each query")
    write_array(folder / "mined.npy", mine(text, *read_vectors(folder), device))
    manifest = {
        "spec": json.loads(canonical(spec)),
        "text": text_name,
        "dimension": dimension,
        "counts": {"queries": len(text.queries), "passages": len(text.passages)},
    }
    write_json(folder / "manifest.json", manifest)


def load_teacher(model: ModelIdentity, max_length: int, precision: str, device: torch.device) -> SentenceTransformer:
    """A sentence-transformers model that cuts texts at `max_length` tokens; `Refusal` where it cannot be had."""
    try:
        teacher = SentenceTransformer(
            locate(model, "data.teacher"),
            device=str(device),
            model_kwargs={"torch_dtype": PRECISIONS[precision]},
            trust_remote_code=False,
        )
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:160]
        raise Refusal(f"data.teacher: {model.known_as} cannot be loaded or fetched ({reason}); give a folder") from None
    teacher.max_seq_length = max_length
    return teacher.eval()


def embed(lines: Lines, encode: Callable, dimension: int, file: Path, say: Callable[[str], None]) -> None:
    """Unit vectors of all lines, float16 [N, dimension], in `file`: long texts last, in blocks that survive a kill."""
    order = np.argsort([len(lines[i]) for i in range(len(lines))], kind="stable")
    note = file.with_suffix(".done.json")
    done = _read_done(note) if file.exists() else 0
    mode = "r+" if done else "w+"
    out = np.lib.format.open_memmap(file, mode, dtype=np.float16, shape=(len(lines), dimension))
    if done:
        say(f"{file.name}: going on after {done} of {len(lines)} texts")
    for start in range(done, len(lines), BLOCK):
        rows = order[start : start + BLOCK]
        vectors = encode(lines.take(rows), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
        out[rows] = vectors.float().cpu().numpy()
        out.flush()
        write_json(note, {"done": start + len(rows)})
        say(f"{file.name}: {start + len(rows)} of {len(lines)} texts")


@torch.inference_mode()
def mine(text: Text, queries: np.ndarray, passages: np.ndarray, device: torch.device) -> np.ndarray:
    """For each train and val query the nearest train passages that are not its own: int32 [Q, MOST_NEGATIVES], -1 where none.

    A passage that scores nearly as high as the query's own (`MARGIN`) is passed over: it may well be true, too.
    """
    mined = np.full((len(queries), MOST_NEGATIVES), NONE, dtype=np.int32)
    corpus, true = text.passages_of("train"), text.positives()
    place = np.full(len(passages), NONE)  # of a passage in the corpus
    place[corpus] = np.arange(len(corpus))
    train = torch.from_numpy(passages[corpus]).float().to(device)
    count = min(MOST_NEGATIVES, len(corpus))
    for rows in _blocks(np.concatenate([text.queries_of("train"), text.queries_of("val")]), QUERIES_AT_ONCE):
        query = torch.from_numpy(queries[rows]).float()
        scores = query.to(device) @ train.T  # (rows, corpus)
        best = torch.empty(len(rows), 1)
        for row, number in enumerate(rows):
            own = true.of(number)
            best[row] = (torch.from_numpy(passages[own]).float() @ query[row]).max()
            scores[row, place[own[place[own] != NONE]]] = NEVER
        scores.masked_fill_(scores > MARGIN * best.to(device), NEVER)
        value, index = scores.topk(count)
        mined[rows, :count] = np.where((value > NEVER).cpu().numpy(), corpus[index.cpu().numpy()], NONE)
    return mined


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _read_done(note: Path) -> int:
    try:
        return int(json.loads(note.read_text())["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
