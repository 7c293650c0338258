"""How much memory a student's training needs: mapped text and vectors, the transformer, one step. Light: no torch."""

from ...study.fingerprints import Fingerprints
from ...study.memory import MB, Memory
from ...study.problems import Problems
from .dataset import pair_files
from .pretrained import Pretrained, pretrained
from .settings import Base, Data
from .specs import BaseSpec, FinetuneSpec

NUMBER = 4  # bytes of a float32; mixed precision keeps copies beside it
LOADED = 750 * MB  # with transformers and its libraries
UNKNOWN = {"hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 50_265}  # of a model not yet on this machine
BUILT_IN_TEXTS, BUILT_IN_TOKENS = 250_000, 64  # of the ontologies; tokens per text, with padding
BYTES_OF_A_TEXT = 60  # in a file of pairs, roughly
EVALUATED = 32  # texts computed together, see `student`


def memory_of(
    wish: Base, data: Data, base: BaseSpec, finetune: FinetuneSpec | None, fingerprints: Fingerprints
) -> Memory:
    """The memory that phase 1 needs or, with `finetune`, phase 2."""
    spec = finetune or base
    student = fingerprints.once(f"student {wish.student}", lambda: _sizes(wish.student, fingerprints))
    width, vocabulary = student["hidden_size"], student["vocab_size"]
    layers = len(base.student.layers or ()) or student["num_hidden_layers"]
    dimension = base.data.teacher.dimension or 1024
    hidden = base.student.projection_hidden_dim or 0
    texts = 2 + (finetune.num_negatives or 0 if finetune else 0)
    length = base.max_length if data.path else min(base.max_length, BUILT_IN_TOKENS)
    of_text = NUMBER * layers * length * (22 * width + 4 * length * max(1, width // 32))
    return Memory(
        fingerprints.once(f"pairs {data.path}", lambda: _texts(data)) * (BYTES_OF_A_TEXT + 2 * dimension),
        vocabulary * width + layers * 12 * width**2 + hidden * (width + dimension),
        spec.batch_size or 0,
        texts * of_text,
        EVALUATED * of_text / layers,
        LOADED,
    )


def _sizes(student: str, fingerprints: Fingerprints) -> dict[str, int]:
    """Width, layers and vocabulary of a student, as far as they are known."""
    found = pretrained(student, "", fingerprints, Problems())
    return UNKNOWN | (_known(found) if found else {})


def _known(student: Pretrained) -> dict[str, int]:
    told = {"hidden_size": student.width, "num_hidden_layers": student.n_layers}
    words = (student.config or {}).get("vocab_size")
    told["vocab_size"] = words if isinstance(words, int) else None
    return {name: value for name, value in told.items() if value}


def _texts(data: Data) -> int:
    """The approximate number of texts."""
    if data.path is None:
        return BUILT_IN_TEXTS
    return sum(file.stat().st_size for file in pair_files(data.path, "", Problems())) // BYTES_OF_A_TEXT
