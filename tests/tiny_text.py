"""Tiny text for distillation: pairs of made-up words and a transformer of a few thousand weights, written in a moment."""

import json
import random
from pathlib import Path

WORDS = [f"{a}{b}" for a in ("ba", "du", "ki", "lo", "me", "na", "po", "ru") for b in ("x", "y", "z", "st", "rk", "nt")]


def write_text(folder: Path, n: int = 60, dimension: int = 16, seed: int = 0) -> Path:
    """`pairs.jsonl` and the model folder `teacher` in `folder`; a query is three words of its passage."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / "teacher", dimension)
    write_pairs(folder / "pairs.jsonl", pairs(n, seed))
    return folder


def pairs(n: int, seed: int = 0) -> list[dict]:
    draw = random.Random(seed)
    passages = [draw.choices(WORDS, k=draw.randint(6, 12)) for _ in range(n)]
    return [{"query": " ".join(passage[1:4]), "positive": " ".join(passage)} for passage in passages]


def write_pairs(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_model(folder: Path, dimension: int = 16, layers: int = 3) -> Path:
    """A BERT with random weights and its tokenizer, as sentence-transformers reads it: mean pooling."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dimension,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
        max_position_embeddings=64,
        initializer_range=0.5,  # or all texts look alike
    )
    BertModel(config).save_pretrained(folder)
    return folder
