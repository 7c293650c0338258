"""What users ask of a text: samples that differ, an end where they say, no repetition, a word where a prompt is too long, batches."""

import io
import json
from types import SimpleNamespace

import pytest
import torch

from rootstock.tasks.language_model.chat import Session, read_settings
from rootstock.tasks.language_model.generate import generate_text, stream_text
from rootstock.tasks.language_model.json_lines import Batches, as_line
from rootstock.tasks.language_model.model import LanguageModel
from rootstock.tasks.language_model.sampling import Sampling, penalised
from rootstock.tasks.language_model.settings import Model
from rootstock.tasks.language_model.tokenizer import train_tokenizer
from rootstock.tasks.language_model.written import Written

SHAPE = Model(d_model=16, n_heads=2, n_layers=1, d_ff=32, context_length=16)
WILD = {"max_length": 12, "temperature": 3.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["a cat is a thing", "an oak is another thing"], 280)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = LanguageModel(tokenizer.get_vocab_size(), SHAPE)
    for weight in model.parameters():  # far from uniform predictions, so that a text depends on its prompt
        torch.nn.init.normal_(weight, std=0.7) if weight.ndim > 1 else None
    return model.eval()


def session(model, tokenizer, **settings) -> tuple[Session, list[str]]:
    said: list[str] = []
    return Session(model, SimpleNamespace(tokenizer=tokenizer), Sampling(**WILD | settings), said.append), said


@pytest.mark.parametrize("seed", [None, 4])
def test_samples_of_one_prompt_differ(model, tokenizer, seed):
    texts = generate_text(model, tokenizer, ["cat"] * 5 + ["oak"], seed=seed, **WILD)
    assert len(set(texts)) == 6
    if seed is not None:
        alone = [generate_text(model, tokenizer, "cat", seed=seed + copy, **WILD) for copy in range(5)]
        assert texts == [*alone, generate_text(model, tokenizer, "oak", seed=seed, **WILD)]


def test_no_prompts_give_no_texts(model, tokenizer):
    assert generate_text(model, tokenizer, [], **WILD) == []


def test_a_penalty_is_that_of_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    rows = [[1, 1, 4], [8, 0, 2]]
    found = penalised(logits, rows, Sampling(repetition_penalty=1.7))
    torch.testing.assert_close(found, RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor(rows), logits))
    assert penalised(logits, rows, Sampling()) is logits


def test_a_large_penalty_lets_nothing_repeat_while_it_is_in_view(model, tokenizer):
    settings = {"max_length": 8, "temperature": 0, "repetition_penalty": 1e9}
    plain = generate_text(model, tokenizer, "cat", **settings | {"repetition_penalty": 1.0})
    letters = tokenizer.encode(generate_text(model, tokenizer, "cat", **settings)).ids
    assert len(set(tokenizer.encode(plain).ids)) < len(set(letters))


def test_what_may_begin_a_stop_string_is_held_back_until_that_is_known(tokenizer):
    written = Written(tokenizer, ("xyz",))
    pieces = [written.add(token) for letter in "axyaxyz" for token in tokenizer.encode(letter).ids]
    assert pieces == ["a", "", "", "xya", "", "", ""] and written.is_over and written.rest() == ""


def test_a_text_ends_before_a_stop_string_wherever_tokens_end(model, tokenizer):
    how = WILD | {"max_length": 60, "seed": 5}
    whole = generate_text(model, tokenizer, "cat", **how)
    stop = next(whole[i : i + 3] for i in range(20, len(whole)) if "\ufffd" not in whole[i : i + 3])
    rows = generate_text(model, tokenizer, ["cat", "oak"], stop=(stop, "never there"), **how)
    assert rows[0] == whole[: whole.index(stop)] and stop not in rows[1]
    pieces = list(stream_text(model, tokenizer, "cat", Sampling(stop=(stop,), **how)))
    assert "".join(pieces) == rows[0] and len(pieces) > 3
    assert generate_text(model, tokenizer, "cat", stop=("never there",), **how) == whole


def test_a_prompt_beyond_the_context_is_said(model, tokenizer, capsys):
    with pytest.warns(UserWarning, match=r"prompt: (\d+) tokens, the context has 16; the first \d+ are not read"):
        generate_text(model, tokenizer, ["cat", "q" * 20], **WILD)
    talk, _ = session(model, tokenizer)
    talk.go_on("q" * 20)
    assert "prompt: 20 tokens, the context has 16; the first 4 are not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("set nonsense 3", "nonsense: unknown setting; choose max-length, temperature"),
        ("set top_kk 3", "top_kk: unknown setting; did you mean top-k?"),
        ("set nonsense", "nonsense: unknown setting"),
        ("set", "set: unknown setting; set NAME VALUE"),
        ("set top-k", 'top-k: "" needs a whole number'),
        ("set top-k 3 4", 'top-k: "3 4" needs a whole number'),
        ("set \udcff 3", "?: unknown setting"),
        ("set stop end of it", 'stop "end of it"\n'),
        ("set stop \\n", 'stop "\\n"\n'),
        ("set repetition-penalty 1.2", "repetition-penalty 1.2\n"),
    ],
)
def test_the_chat_takes_no_slip_for_a_prompt(model, tokenizer, line, answer):
    talk, said = session(model, tokenizer)
    talk.answer(line)
    assert len(said) == 1 and said[0].startswith(answer)


def test_a_text_may_begin_with_a_command(model, tokenizer):
    talk, said = session(model, tokenizer)
    for line in (" set theory is", " help", "set of things that are"):
        talk.answer(line)
        assert "".join(said).startswith(line) and said.clear() is None


def test_a_session_writes_as_many_samples_as_asked(model, tokenizer):
    talk, said = session(model, tokenizer, seed=1)
    talk.samples = 3
    talk.go_on("cat")
    texts = [generate_text(model, tokenizer, "cat", **WILD, seed=seed) for seed in (1, 2, 3)]
    assert "".join(said) == "".join(f"cat{text}\n" for text in texts)


LINES = [
    b'{"prompt": "cat", "id": 7}\n',
    b'{"prompt": "oak", "seed": 9, "max_length": 3}\n',
    b"\n",
    b"\xff\n",
    b'{"prompt": "cat"}\n',
    b'{"promt": "cat"}\n',
    b'{"prompt": "cat", "top_p": 7}\n',
    b'{"prompt": "' + b"q" * 20 + b'", "stop": "z"}',
]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_lines_of_json_are_answered_in_order_whatever_the_batch(model, tokenizer, size):
    batches = Batches(model, tokenizer, read_settings(WILD | {"seed": "2"}), samples=2, size=size)
    cat, oak, *rest = [json.loads(as_line(answer)) for answer in batches.answers(io.BytesIO(b"".join(LINES)))][::2]
    answers = [json.loads(as_line(answer)) for answer in batches.answers(LINES[:1])]
    assert cat == {"id": 7, "prompt": "cat", "text": generate_text(model, tokenizer, "cat", **WILD, seed=2)}
    assert oak["text"] == generate_text(model, tokenizer, "oak", **WILD | {"max_length": 3}, seed=9)
    assert answers[0]["text"] == generate_text(model, tokenizer, "cat", **WILD, seed=6)  # two lines of two came before
    assert batches.faults == 3 and len(rest) == 4


def test_a_line_with_a_fault_is_answered_with_it(model, tokenizer):
    batches = Batches(model, tokenizer, read_settings(WILD), samples=1, size=4)
    _, _, utf8, again, key, value, long = batches.answers(LINES)
    assert utf8["line"] == 4 and "utf-8" in utf8["error"] and again["text"]
    assert key["line"] == 6 and "promt: unknown key; did you mean prompt?" in key["error"]
    assert value == {"line": 7, "error": "top-p: 7 needs a number of at most 1"}
    assert long["note"] == "prompt: 20 tokens, the context has 16; the first 4 are not read"
