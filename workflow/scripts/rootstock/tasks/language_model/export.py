"""A trained model as a Hugging Face folder: weights under a Llama's names or a PEFT adapter; tokenizer and card."""

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
from .llama import config_of_shape, llama_name
from .settings import Model
from .task import trunk_folder
from .tokenizer import begin_of_text, end_of_text, read_tokenizer


def export(
    model: BinaryIO,
    metadata: dict[str, Any],
    data: str | None,
    study: dict[str, Any],
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write `model` into `folder` so that `AutoModelForCausalLM` and `AutoTokenizer` load it. Unless the study asks for
    merged updates, write a low-rank update so that `PeftModel` loads it beside its trunk."""
    where = Path(model.name)
    content = whole(load(model), where, where.parent.parent)
    shape = Model.model_validate(metadata["spec"]["model"])
    weights, vocab_size = content["model"], content["model"]["embedding.weight"].shape[0]
    begin, end = _write_tokenizer(content["tokenizer"], shape, folder, model.name)
    is_adapter = metadata["spec"].get("mode") == "lora" and not study.get("export_merged")
    if is_adapter:
        count = write_adapter(weights, metadata, folder)
        _say_where_trunk_is(folder.parent / trunk_folder(metadata["spec"]["base"]), metadata, say)
    else:
        count = _write_weights(merged(weights), folder)
        write_json(folder / "config.json", config_of_shape(shape, vocab_size, begin, end))
        ids = {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
        write_json(folder / "generation_config.json", ids)
    write_atomically(folder / "README.md", card(folder.name, metadata, shape, is_adapter).encode())
    say(f"{count} tensors, vocabulary {vocab_size}, context {shape.context_length}")


def _write_weights(weights: dict[str, Tensor], folder: Path) -> int:
    """Write a plain model's weights under a Llama's names; return the number of tensors."""
    from safetensors.torch import save

    tensors = {llama_name(name): tensor.contiguous() for name, tensor in weights.items()}
    write_atomically(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    return len(tensors)


def _write_tokenizer(text: str, shape: Model, folder: Path, where: str) -> tuple[int, int]:
    """Write the tokenizer's files; return the numbers of the tokens that begin and end a text."""
    tokenizer = read_tokenizer(text, where)
    begin, end = begin_of_text(tokenizer), end_of_text(tokenizer)
    write_atomically(folder / "tokenizer.json", text.encode())
    names = {"bos_token": tokenizer.id_to_token(begin), "eos_token": tokenizer.id_to_token(end)}
    names |= {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": names["eos_token"]}
    longest = shape.longest_context or shape.context_length
    write_json(folder / "tokenizer_config.json", names | {"model_max_length": longest})
    return begin, end


def _say_where_trunk_is(trunk: Path, metadata: dict[str, Any], say: Callable[[str], None]) -> None:
    if not trunk.exists():
        base = metadata["spec"]["base"]
        say(f"an adapter of {trunk}: export_model.py --hash {base} --output {trunk} writes that; --merge needs none")
