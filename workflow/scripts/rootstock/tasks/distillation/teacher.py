"""The teacher's vectors of a prepared text, computed once, block by block, and the hard negatives mined with them."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

BLOCK = 2048  # texts; progress is noted after each wave of `at_once` blocks
QUERIES_AT_ONCE = 512
NEVER = -2.0  # below every cosine
MARGIN = 0.95  # a negative scores below this share of the query's own passage (NV-Retriever, Moreira et al. 2024)


logging.disable_progress_bar()  # a job's log is not a terminal


def prepare_vectors(spec: PreparedSpec, folder: Path, run: Run, say: Callable[[str], None]) -> None:
    """Write what `Vectors` reads into `folder`, `manifest.json` last. An interrupted preparation resumes."""
    text_name = f"text_{short_digest(spec.text)}"
    text = Text(folder.parent / text_name)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = spec.teacher
    assert wanted is not None  # else there are no vectors to prepare
    torch.set_num_threads(1)  # blocks in parallel use the other cores, so that the bits do not depend on `run.threads`
    device = pick_device(run.device)
    at_once = run.threads if device.type == "cpu" else 1
    teacher = load_teacher(wanted.model, wanted.max_length, wanted.precision, device)
    teacher.encode(["a text"], show_progress_bar=False)  # sets up its tokenizer, which threads must not do concurrently
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
        embed(lines, encode, dimension, folder / f"{role}.npy", say, at_once)
    say(f"mining up to {MOST_NEGATIVES} hard negatives of each query")
    write_array(folder / "mined.npy", mine(text, *read_vectors(folder), device, at_once))
    manifest = {
        "spec": json.loads(canonical(spec)),
        "text": text_name,
        "dimension": dimension,
        "counts": {"queries": len(text.queries), "passages": len(text.passages)},
    }
    write_json(folder / "manifest.json", manifest)


def load_teacher(model: ModelIdentity, max_length: int, precision: str, device: torch.device) -> SentenceTransformer:
    """Load a sentence-transformers model that cuts texts at `max_length` tokens. Raise `Refusal` where that fails."""
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


def embed(
    lines: Lines, encode: Callable, dimension: int, file: Path, say: Callable[[str], None], at_once: int = 1
) -> None:
    """Write unit vectors of all lines, float16 [N, dimension], to `file`, long texts last. `at_once` blocks are encoded
    in parallel, and what is noted as done survives a kill."""
    order = np.argsort([len(lines[i]) for i in range(len(lines))], kind="stable")
    note = file.with_suffix(".done.json")
    done = _read_done(note) if file.exists() else 0
    mode = "r+" if done else "w+"
    out = np.lib.format.open_memmap(file, mode, dtype=np.float16, shape=(len(lines), dimension))
    if done:
        say(f"{file.name}: going on after {done} of {len(lines)} texts")

    def encoded(rows: np.ndarray) -> np.ndarray:
        vectors = encode(lines.take(rows), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
        found = vectors.float().cpu().numpy()
        if not np.isfinite(found).all():
            raise Refusal(
                "data.teacher: gives vectors that are not finite; choose another teacher, or teacher_precision"
            )
        return found

    with ThreadPoolExecutor(at_once) as pool:
        for wave in _blocks(order[done:], at_once * BLOCK):
            blocks = list(_blocks(wave, BLOCK))
            for rows, vectors in zip(blocks, pool.map(encoded, blocks), strict=True):
                out[rows] = vectors
            out.flush()
            done += len(wave)
            write_json(note, {"done": done})
            say(f"{file.name}: {done} of {len(lines)} texts")


def mine(text: Text, queries: np.ndarray, passages: np.ndarray, device: torch.device, at_once: int = 1) -> np.ndarray:
    """For each train and val query the nearest train passages that are not its own: int32 [Q, MOST_NEGATIVES], padded
    with -1.

    A passage that scores nearly as high as the query's own (`MARGIN`) is skipped, because it may be a true one too.
    """
    mined = np.full((len(queries), MOST_NEGATIVES), NONE, dtype=np.int32)
    corpus, true = text.passages_of("train"), text.positives()
    place = np.full(len(passages), NONE)  # of a passage in the corpus
    place[corpus] = np.arange(len(corpus))
    train = torch.from_numpy(passages[corpus]).float().to(device)
    count = min(MOST_NEGATIVES, len(corpus))

    @torch.inference_mode()
    def mine_for(rows: np.ndarray) -> None:
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

    with ThreadPoolExecutor(at_once) as pool:
        asked = np.concatenate([text.queries_of("train"), text.queries_of("val")])
        list(pool.map(mine_for, _blocks(asked, QUERIES_AT_ONCE)))  # `list` raises what failed in a thread
    return mined


def _blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _read_done(note: Path) -> int:
    try:
        return int(json.loads(note.read_text())["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
