"""The folder of a Llama that a trunk starts from: its identity, and faults that keep it from being continued.

Light: reads JSON and the headers of safetensors files, no weights. Nothing in a folder is trusted, and nothing is run.
"""

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ...machine.private import SMALL, json_object, opened, read_json, read_small
from ...study.fields import is_name
from ...study.fingerprints import Fingerprints
from ...study.problems import Refusal, show
from ..folders import config_of, is_count, odd_counts
from .llama import (
    DEFAULT_EPSILON,
    NAMES,
    ORIGINAL_CONTEXT,
    ROPE_NUMBERS,
    Sizes,
    llama_name,
    rope_of,
    shape_of,
    sizes_of,
)

WEIGHTS, INDEX, TOKENIZER = "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
TYPES = {"F32", "F16", "BF16"}  # of numbers that are read
MOST_BYTES = 2**26  # of a tokenizer.json: the largest vocabularies take half of that
MOST_LAYERS = 1000  # an untrusted config.json must not cost memory or time
COUNTS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
OTHER_COUNTS = ("num_key_value_heads", "head_dim", "max_position_embeddings")  # not in every config.json
PLAIN = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "quantization_config": None,
    "auto_map": None,
}


def fingerprint(folder: Path, fingerprints: Fingerprints) -> str:
    """The fingerprint of the files in a model's folder that are read. Raise `OSError` or `ValueError` where one is not
    there."""
    return fingerprints.of([folder / "config.json", folder / TOKENIZER, *weight_files(folder)])


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a folder, sorted by name. Raise `OSError` or `ValueError` where an index is needed but
    missing or invalid."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    names = set(read_json(folder / INDEX)["weight_map"].values())
    if not names or not all(is_name(name) and name.endswith(".safetensors") for name in names):
        raise ValueError("its weight_map does not name files beside it")
    return [folder / name for name in sorted(names)]


def faults_of(folder: Path, context_length: int) -> tuple[str, ...]:
    """What keeps a model from being continued, one phrase per fault. Checks that build on a failed one are skipped."""
    if not folder.is_dir():
        return ("is no folder; give that of a Llama that save_pretrained wrote",)
    stamps = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    files = tuple((name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, s in stamps)
    return _faults(folder, context_length, files)


@cache
def _faults(folder: Path, context_length: int, files: tuple) -> tuple[str, ...]:
    """Cached for each state of the folder's files, because a plan asks for every unit."""
    config = config_of(folder)
    if config is None:
        return ("holds no config.json that can be read; give the folder of a Llama that save_pretrained wrote",)
    if faults := tuple(_of_config(config)) or tuple(_of_heads(config)):
        return faults
    shape = shape_of(config, context_length)
    found = [*_of_tokenizer(folder, config["vocab_size"]), *_of_weights(folder, sizes_of(shape, config["vocab_size"]))]
    if context_length > (longest := shape.longest_context or context_length):
        found.append(f"knows {longest} positions, fewer than context_length: {context_length}; make that smaller")
    return tuple(found)


def _of_config(config: dict[str, Any]) -> Iterator[str]:
    if (kind := config.get("model_type")) != "llama":
        yield f"is of model_type {show(kind)}; only a plain llama can be continued"
        return
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > MOST_LAYERS:
        yield f"has in config.json num_hidden_layers: {layers}; no more than {MOST_LAYERS} are read"
    yield from odd_counts(config, (*COUNTS, *(name for name in OTHER_COUNTS if config.get(name) is not None)))
    for name, plain in PLAIN.items():
        if (value := config.get(name)) not in (plain, None):
            yield f"has in config.json {name}: {show(value)}, which a plain llama has not; it cannot be continued"
    if not isinstance(tied := config.get("tie_word_embeddings", False), bool):
        yield f"has in config.json tie_word_embeddings: {show(tied)}, which is neither true nor false"
    if not _is_positive(epsilon := config.get("rms_norm_eps", DEFAULT_EPSILON)):
        yield f"has in config.json rms_norm_eps: {show(epsilon)}, which is no number above 0"
    yield from _of_rope(config)


def _of_rope(config: dict[str, Any]) -> Iterator[str]:
    rope = rope_of(config)
    if (kind := rope["rope_type"]) not in ("default", "llama3"):
        yield f"has rotary positions of rope_type {show(kind)}; only default and llama3 are read"
        return
    numbers = {"rope_theta": rope["rope_theta"]}
    if kind == "llama3":
        numbers |= {name: rope.get(name) for name in (*ROPE_NUMBERS, ORIGINAL_CONTEXT)}
    odd = [name for name, value in numbers.items() if not _is_positive(value)]
    odd += [ORIGINAL_CONTEXT] if kind == "llama3" and not is_count(rope.get(ORIGINAL_CONTEXT)) else []
    if odd or (kind == "llama3" and not rope["low_freq_factor"] < rope["high_freq_factor"]):
        name = (odd or ["low_freq_factor"])[0]
        yield f"has rotary positions with {name}: {show(numbers[name])}, which cannot be"


def _of_heads(config: dict[str, Any]) -> Iterator[str]:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads") or heads
    if heads % kv_heads:
        yield f"has num_attention_heads: {heads}, which num_key_value_heads: {kv_heads} does not divide"
    if not config.get("head_dim") and width % heads:
        yield f"has hidden_size: {width}, which num_attention_heads: {heads} does not divide"
    elif (config.get("head_dim") or width // heads) % 2:
        yield "has heads of an odd width; rotary positions need an even one"


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _of_tokenizer(folder: Path, vocabulary: int) -> Iterator[str]:
    """Each token must have a row in the embeddings. Further rows, which pad the table, are no fault."""
    try:
        content = json_object(read_small(folder / TOKENIZER, limit=MOST_BYTES))
        known, added = content["model"]["vocab"], content.get("added_tokens") or ()
        numbers = dict(known) if isinstance(known, dict) else {token: n for n, (token, *_) in enumerate(known)}
        rows = {*numbers.values(), *(token["id"] for token in added)}
        tokens = numbers.keys() | {token["content"] for token in added}
    except FileNotFoundError:
        yield f"holds no {TOKENIZER}; save the model's tokenizer there, AutoTokenizer.from_pretrained(…).save_pretrained(…)"
    except (OSError, ValueError, LookupError, TypeError, Refusal) as error:
        yield f"has a {TOKENIZER} that cannot be read ({type(error).__name__}: {error})"
    else:
        if len(tokens) > vocabulary:
            fix = f"model.resize_token_embeddings({len(tokens)}) makes them agree"
            yield f"has {vocabulary} rows of embeddings and a tokenizer of {len(tokens)} tokens; {fix}"
        elif rows != set(range(len(tokens))):
            yield f"has a {TOKENIZER} whose tokens are not numbered from 0 to {len(tokens) - 1}, one each; mend that"


def _of_weights(folder: Path, sizes: Sizes) -> Iterator[str]:
    """Compare names, types and sizes of the tensors, from the headers of the files, with those that the config.json
    asks for."""
    try:
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        for file in weight_files(folder):
            found |= header_of(file)
    except FileNotFoundError as error:
        name = Path(error.filename or "").name
        what = WEIGHTS if name == INDEX else name
        yield f"holds no {what}; save_pretrained writes it (weights that are pickled, .bin or .pt, are not read)"
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError, Refusal) as error:
        yield f"has weights that cannot be read ({type(error).__name__}: {error})"
        return
    wanted = {llama_name(name): size for name, size in sizes.items()}
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in sorted(found) if name not in wanted and not is_passed_over(name)]
    odd = [name for name in wanted if name in found and (found[name][0] not in TYPES or found[name][1] != wanted[name])]
    if missing:
        yield f"lacks the weight {missing[0]}{_more(missing)}"
    if unknown:
        yield f"has the weight {show(unknown[0])}{_more(unknown)}, which a plain llama has not"
    if odd:
        (kind, size), needed = found[odd[0]], f"{' or '.join(sorted(TYPES))} {list(wanted[odd[0]])}"
        yield f"has the weight {odd[0]} as {kind} {list(size)}, its config.json asks for {needed}{_more(odd)}"


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if names[1:] else ""


def is_passed_over(name: str) -> bool:
    """Whether a weight follows from others: the output layer of a tied model, or the frequencies in old files."""
    return name == NAMES["head"] or name.endswith(".rotary_emb.inv_freq")


def header_of(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and size of each tensor of a safetensors file. Raise `ValueError` where the header is invalid or does not
    match the file's length."""
    with opened(file) as content:
        length = int.from_bytes(content.read(8), "little")
        if length > SMALL:
            raise ValueError(f"{file.name}: a header of {length} bytes")
        header = json_object(content.read(length))
        size = os.fstat(content.fileno()).st_size
    header.pop("__metadata__", None)
    tensors = {str(name): (str(one["dtype"]), tuple(one["shape"])) for name, one in header.items()}
    if not all(is_count(n) for _, size in tensors.values() for n in size):
        raise ValueError(f"{file.name}: a size that is none")
    ends = [one["data_offsets"][1] for one in header.values()]
    if size != 8 + length + max(ends, default=0):
        raise ValueError(f"{file.name}: truncated, or longer than its header says")
    return tensors
