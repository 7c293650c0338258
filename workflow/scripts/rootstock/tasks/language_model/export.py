"""A trained model as a Hugging Face folder: weights under the names of a Llama, or an adapter of PEFT; tokenizer, card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from ...engine.files import load
from ...engine.low_rank import merged
from ...store.files import write_atomically, write_json
from ..loading import whole
from .adapter import write_adapter
from .card import card
from .llama import llama_name
from .model import NORM_EPSILON, ROPE_THETA
from .settings import Model
from .task import trunk_folder
from .tokenizer import end_of_text, read_tokenizer


def export(
    model: BinaryIO,
    metadata: dict[str, Any],
    data: str | None,
    study: dict[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write `model` into `folder`, so that `AutoModelForCausalLM` and `AutoTokenizer` load it; a low-rank update, unless the study
    asks for merged ones, so that `PeftModel` loads it beside its trunk."""
    where = Path(model.name)
    content = whole(load(model), where, where.parent.parent)
    shape = Model.model_validate(metadata["spec"]["model"])
    weights, vocab_size = content["model"], content["model"]["embedding.weight"].shape[0]
    end = _write_tokenizer(content["tokenizer"], shape, folder, model.name)
    is_adapter = metadata["spec"].get("mode") == "lora" and not study.get("export_merged")
    if is_adapter:
        count = write_adapter(weights, metadata, folder)
        _say_where_trunk_is(folder.parent / trunk_folder(metadata["spec"]["base"]), metadata, say)
    else:
        count = _write_weights(merged(weights), folder)
        write_json(folder / "config.json", llama_config(shape, vocab_size, end))
        write_json(folder / "generation_config.json", {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end})
    write_atomically(folder / "README.md", card(folder.name, metadata, shape, is_adapter).encode())
    say(f"{count} tensors, vocabulary {vocab_size}, context {shape.context_length}")


def _write_weights(weights: dict[str, Tensor], folder: Path) -> int:
    """All of a plain model's, under a Llama's names; how many tensors that are."""
    from safetensors.torch import save

    tensors = {llama_name(name): tensor.contiguous() for name, tensor in weights.items()}
    write_atomically(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    return len(tensors)


def _write_tokenizer(text: str, shape: Model, folder: Path, where: str) -> int:
    """The tokenizer's files; the number of the token that ends a text."""
    tokenizer = read_tokenizer(text, where)
    end = end_of_text(tokenizer)
    write_atomically(folder / "tokenizer.json", text.encode())
    ends = tokenizer.id_to_token(end)
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ends, "bos_token": ends, "pad_token": ends}
    write_json(folder / "tokenizer_config.json", names | {"model_max_length": shape.context_length})
    return end


def _say_where_trunk_is(trunk: Path, metadata: dict[str, Any], say: Callable[[str], None]) -> None:
    if not trunk.exists():
        base = metadata["spec"]["base"]
        say(f"an adapter of {trunk}: export_model.py --hash {base} --output {trunk} writes that; --merge needs none")


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
