"""The README of an exported language model: what it is, how to use it, its losses, its sources. Light: no torch."""

from typing import Any

from ..ontologies import ONTOLOGIES
from .dataset import ONTOLOGIES as SUBJECTS
from .settings import Model
from .task import trunk_folder


def card(name: str, metadata: dict[str, Any], shape: Model, is_adapter: bool = False) -> str:
    """Markdown with the header that the hub reads, for readers of the folder `name`."""
    spec, metrics = metadata["spec"], metadata["metrics"]
    about = spec.get("domain") or "all of its text"
    library = f"peft\nbase_model: ../{trunk_folder(spec['base'])}" if is_adapter else "transformers"
    return "\n".join(
        [
            f"---\nlibrary_name: {library}\npipeline_tag: text-generation\nlicense: other",
            "license_name: those-of-its-text\n---",
            f"# {'Trunk' if 'base' not in spec else spec['mode']} {metadata['hash']}",
            "",
            f"A language model of {metrics['parameters']:,} parameters trained by Rootstock on {about} "
            f"({', '.join(spec['data']['domains'])}), {shape.n_layers} layers of width {shape.d_model}, "
            f"context of {shape.context_length} tokens. It writes what its text looks like; what it says is not to be believed.",
            "",
            *(_adapter_example(name, trunk_folder(spec["base"])) if is_adapter else _example(name)),
            "",
            "| test text | loss, nats a token | perplexity |",
            "|---|---|---|",
            *_losses(metrics),
            "",
            *_sources(spec["data"]),
            *_begun(metadata.get("base_spec") or spec),
        ]
    )


def _example(name: str) -> list[str]:
    return [
        "```python",
        "from transformers import pipeline",
        "",
        f'writer = pipeline("text-generation", "{name}")  # the path of this folder',
        'writer("lung cancer:", max_new_tokens=60, do_sample=True, temperature=0.8, top_k=50, top_p=0.9)',
        "```",
    ]


def _adapter_example(name: str, trunk: str) -> list[str]:
    return [
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f'trunk = AutoModelForCausalLM.from_pretrained("{trunk}")  # the folder beside this one',
        f'model = PeftModel.from_pretrained(trunk, "{name}")  # the path of this folder',
        "```",
    ]


def _losses(metrics: dict[str, Any]) -> list[str]:
    measured = metrics.get("test", metrics["base"])
    return [f"| {name} | {m['loss']:.3f} | {m['perplexity']:.1f} |" for name, m in measured.items()]


def _begun(trunk: dict[str, Any]) -> list[str]:
    """A note on the origin of a model that did not start from new weights."""
    if (begun := trunk.get("start_from")) is None:
        return []
    content = begun["content"][:16]
    return [f"It began as a pretrained Llama of its maker's (content {content}), whose licence applies too.", ""]


def _sources(data: dict[str, Any]) -> list[str]:
    """The sources of its text and their licences, which all apply to the weights."""
    if data.get("content"):
        told = ["Text of its maker's own, whose licences apply to the weights:", ""]
        return ["## Sources and licence", "", *told, *(f"- {domain}" for domain in data["domains"]), ""]
    told = [f"Definitions from {data.get('version')}; the licences of all of them apply to the weights:", ""]
    used = ((domain, ONTOLOGIES.get(SUBJECTS.get(domain, ""))) for domain in data["domains"])
    rows = [f"- {domain}: {found.licence}, {found.release}" for domain, found in used if found]
    return ["## Sources and licence", "", *told, *rows, ""]
