"""Text to token numbers and back: a byte-level BPE trained here, or a given tokenizer."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ...study.fields import is_text
from ...study.problems import Refusal

END_OF_TEXT = "<|endoftext|>"
KNOWN_BEGINS = ("<s>", "<|begin_of_text|>", "<bos>", "[CLS]")
KNOWN_ENDS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[SEP]")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 2016): every character has an encoding. Equal texts give equal tokenizers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def given_tokenizer(files: list[Path]) -> str:
    """The text of a tokenizer.json: a user's own as it is, or one made of GPT-2's vocab.json and merges.txt."""
    if len(files) == 1:
        load_tokenizer(files[0])
        return files[0].read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    except Exception as error:  # the library raises nothing more precise
        raise Refusal(f"{files[0]}: is not the vocabulary of a BPE ({str(error).splitlines()[0][:120]})") from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizer.id_to_token(end_of_text(tokenizer, str(files[0])))])
    return tokenizer.to_str(pretty=True)


def read_tokenizer(content: str, where: str) -> Tokenizer:
    """Read a tokenizer from the text of its tokenizer.json. It always gives a text the same tokens, and all of them.

    Raise `Refusal` where it is invalid, has no token that ends a text, or has a token number beyond a model's rows.
    """
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing more precise
        raise Refusal(f"{where}: is not a tokenizer.json ({str(error).splitlines()[0][:120]})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if isinstance(tokenizer.model, models.BPE):
        tokenizer.model.dropout = None  # with it (Provilkov et al. 2020), each reading gives other tokens
    end_of_text(tokenizer, where)
    if (largest := max(tokenizer.get_vocab().values())) >= (count := tokenizer.get_vocab_size()):
        raise Refusal(f"{where}: numbers one of its {count} tokens {largest}; number them from 0 to {count - 1}")
    return tokenizer


def load_tokenizer(file: Path) -> Tokenizer:
    try:
        return read_tokenizer(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{file}: cannot be read ({error})") from None


def end_of_text(tokenizer: Tokenizer, where: str = "tokenizer") -> int:
    """The number of the token that ends a document."""
    for name in KNOWN_ENDS:
        if (number := tokenizer.token_to_id(name)) is not None:
            return number
    raise Refusal(f"{where}: has no token that ends a text; add one of {', '.join(KNOWN_ENDS)}")


def boundary(tokenizer: str, mask_documents: bool | None) -> int | None:
    """The token that attention does not cross, from a tokenizer.json's text; None if attention crosses documents."""
    return end_of_text(read_tokenizer(tokenizer, "tokenizer")) if mask_documents else None


def begin_of_text(tokenizer: Tokenizer) -> int:
    """The number of the token that begins a document for programs that add one; without one, of that which ends it."""
    found = (tokenizer.token_to_id(name) for name in KNOWN_BEGINS)
    return next((number for number in found if number is not None), end_of_text(tokenizer))


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Token numbers of a prompt. Raise `Refusal` with the characters that the tokenizer does not know."""
    if not is_text(prompt):
        raise Refusal(f"prompt: {prompt!r} is no text in UTF-8; write it in UTF-8")
    encoded = tokenizer.encode(prompt, add_special_tokens=False)
    known = [False] * len(prompt)
    unknown_token = getattr(tokenizer.model, "unk_token", None)
    for token, (start, end) in zip(encoded.tokens, encoded.offsets, strict=True):
        if token != unknown_token:
            known[start:end] = [True] * (end - start)
    lost = {c for c, is_known in zip(prompt, known, strict=True) if not is_known and not c.isspace()}
    if lost:
        shown = " ".join(sorted(lost)[:10])
        raise Refusal(f"prompt: {shown} unknown to this model's tokenizer; leave such characters out")
    return encoded.ids
