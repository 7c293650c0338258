"""The README of an exported student: what it is, what it learned from, how well it does, under which licence."""

from pathlib import Path
from typing import Any

from .dataset import manifest_of, prepared_text
from .packaged import MODELS
from .specs import ModelIdentity

SCORES = (("recall_at_1", "R@1"), ("recall_at_10", "R@10"), ("mrr", "MRR"), ("ndcg_at_10", "nDCG@10"))


def card(name: str, content: dict[str, Any], metadata: dict[str, Any], data: Path) -> str:
    """Markdown with the header that the hub reads. `content` is the model file, `metadata` what the store keeps beside it."""
    text = manifest_of(prepared_text(data))
    base = metadata.get("base_spec") or metadata["spec"]
    teacher, student = (
        ModelIdentity.model_validate(model) for model in (base["data"]["teacher"]["model"], base["student"]["model"])
    )
    measured = metadata["metrics"]
    parts = [
        _header(student.known_as),
        _about(name, metadata, base, teacher.known_as, student.known_as),
        _scores(measured),
        _data(text),
        _licence(text, teacher, student),
    ]
    return "\n".join(line for part in parts for line in part)


def _header(student: str) -> list[str]:
    return [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: sentence-similarity",
        "tags: [sentence-transformers, sentence-similarity, distillation]",
        f"base_model: {student if '/' in student else 'unknown'}",
        "license: other",
        "license_name: those-of-student-teacher-and-data",
        "---",
        "",
    ]


def _about(name: str, metadata: dict[str, Any], base: dict[str, Any], teacher: str, student: str) -> list[str]:
    layers, measured = base["student"].get("layers"), metadata["metrics"]
    chosen = f", layers {', '.join(map(str, layers))}" if layers else ""
    head = "with a projection" if base["use_projection"] else "without a projection"
    is_phase2 = metadata["spec"].get("mode") in ("phase2", "lora")
    learned = "phase 1, then phase 2, in which it learned to retrieve" if is_phase2 else "phase 1 alone"
    return [
        f"# {name}, {'phase 2' if is_phase2 else 'phase 1'}",
        "",
        f"A student of {measured['layers']} layers and {measured['parameters']:,} parameters, distilled from "
        f"{teacher}; it gives vectors of {measured['dimension']} dimensions, mean pooling, {head}, unit length. It starts from "
        f"{student}{chosen}. It went through {learned}. Model {metadata['hash']} of Rootstock.",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{name}")  # the path of this folder',
        'model.encode(["a query", "a passage"])',
        "```",
        "",
    ]


def _scores(measured: dict[str, Any]) -> list[str]:
    return [
        "## Scores",
        "",
        f"Retrieval of {measured['n_passages']:,} held-out passages by {measured['n_queries']:,} queries; no passage, nor a "
        "near-duplicate of one, was trained on.",
        "",
        "| | " + " | ".join(label for _, label in SCORES) + " |",
        "|---|" + "---|" * len(SCORES),
        *(_row(label, measured[part]) for label, part in _rows(measured)),
        *(_row(f"first {d} dimensions", scores) for d, scores in measured["dimensions"].items()),
        "",
        f"Correlation with the teacher's similarities (Spearman): {measured['test']['teacher_correlation']:.3f}.",
        "",
    ]


def _data(text: dict[str, Any]) -> list[str]:
    return [
        "## Data",
        "",
        f"{text['counts']['train']['pairs']:,} pairs of query and passage from {', '.join(text['datasets'])}.",
        f"Sources: {'; '.join(text['sources'])}." if text["sources"] else "Sources: pairs of its maker's own.",
        "",
    ]


def _licence(text: dict[str, Any], teacher: ModelIdentity, student: ModelIdentity) -> list[str]:
    return [
        "## Licence",
        "",
        "The weights derive from the student, the teacher and the data; the licences of all three apply:",
        "",
        f"- student: {_licensed(student)}",
        f"- teacher: {_licensed(teacher)}",
        *(f"- data: {source}" for source in text["sources"] or ["as its maker says"]),
        "",
        "How it was trained stands in `study.yaml`.",
        "",
    ]


def _licensed(model: ModelIdentity) -> str:
    packaged = MODELS.get(model.name or "")
    return f"{model.known_as}, {packaged.licence if packaged else 'see its own card'}"


def _rows(measured: dict[str, Any]) -> list[tuple[str, str]]:
    phase1 = [("after phase 1", "base_test")] if "base_test" in measured else []
    return [("teacher", "teacher"), *phase1, ("this model", "test")]


def _row(label: str, scores: dict[str, float]) -> str:
    return f"| {label} | " + " | ".join(f"{scores[name]:.3f}" for name, _ in SCORES) + " |"
