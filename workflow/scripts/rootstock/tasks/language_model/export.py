"""A trained model as a Hugging Face folder: weights under the names of a Llama, tokenizer, card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ...engine.files import load
from ...store.files import write_atomically, write_json
from .model import NORM_EPSILON, ROPE_THETA
from .settings import Model
from .tokenizer import end_of_text, read_tokenizer

LLAMA_NAMES = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}


def export(
    model: BinaryIO,
    metadata: dict[str, Any],
    data: str | None,
    study: dict[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write `model` into `folder`, so that `AutoModelForCausalLM` and `AutoTokenizer` load it."""
    from safetensors.torch import save

    content = load(model)
    weights = {llama_name(name): tensor.contiguous() for name, tensor in content["model"].items()}
    write_atomically(folder / "model.safetensors", save(weights, metadata={"format": "pt"}))
    vocab_size = content["model"]["embedding.weight"].shape[0]
    tokenizer = read_tokenizer(content["tokenizer"], model.name)
    end = end_of_text(tokenizer)
    shape = Model.model_validate(metadata["spec"]["model"])
    write_json(folder / "config.json", llama_config(shape, vocab_size, end))
    write_atomically(folder / "tokenizer.json", content["tokenizer"].encode())
    ends = tokenizer.id_to_token(end)
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ends, "bos_token": ends, "pad_token": ends}
    write_json(folder / "tokenizer_config.json", names | {"model_max_length": shape.context_length})
    write_json(folder / "generation_config.json", {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end})
    write_atomically(folder / "README.md", card(metadata, shape).encode())
    say(f"{len(weights)} tensors, vocabulary {vocab_size}, context {shape.context_length}")


def llama_name(name: str) -> str:
    """The name that a weight of ours has in a Llama."""
    if name in LLAMA_NAMES:
        return LLAMA_NAMES[name]
    _, layer, part = name.split(".", 2)  # blocks.3.attention.query.weight
    return f"model.layers.{layer}.{LLAMA_NAMES[part.removesuffix('.weight')]}.weight"


def llama_config(shape: Model, vocab_size: int, end: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": shape.d_model,
        "intermediate_size": shape.d_ff,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_heads,
        "head_dim": shape.d_model // shape.n_heads,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": NORM_EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "dtype": "float32",
    }


def card(metadata: dict[str, Any], shape: Model) -> str:
    """What the model is and how well it predicts text, for those who find the folder."""
    spec, metrics = metadata["spec"], metadata["metrics"]
    about = spec.get("domain") or "all of its text"
    rows = [
        f"| {name} | {m['loss']:.3f} | {m['perplexity']:.1f} |"
        for name, m in metrics.get("test", metrics["base"]).items()
    ]
    return "\n".join(
        [
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---",
            f"# {'Trunk' if 'base' not in spec else spec['mode']} {metadata['hash']}",
            "",
            f"A language model of {metrics['parameters']:,} parameters trained by Rootstock on {about} "
            f"({', '.join(spec['data']['domains'])}), {shape.n_layers} layers of width {shape.d_model}, "
            f"context of {shape.context_length} tokens.",
            "",
            "| test text | loss, nats a token | perplexity |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
