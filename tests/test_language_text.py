"""Text to tokens: documents, splits, shards, tokenizers; interrupted, in parallel, damaged."""

import json
from functools import partial

import numpy as np
import pyarrow
import pytest
from conftest import plan
from pyarrow import parquet
from tiny import TINY, write_texts
from tokenizers import Tokenizer, models, pre_tokenizers

from rootstock.job.prepare import prepare
from rootstock.study.problems import Refusal
from rootstock.tasks.language_model import prepare as preparation
from rootstock.tasks.language_model import shards
from rootstock.tasks.language_model.dataset import Document
from rootstock.tasks.language_model.settings import SPLITS
from rootstock.tasks.language_model.shards import TokenStream, open_prepared, token_type
from rootstock.tasks.language_model.text import read_texts, split_of
from rootstock.tasks.language_model.tokenizer import encode_prompt, end_of_text, read_tokenizer
from rootstock.tasks.registry import TASKS


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """The artefact of the tiny study, its text written, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")
    return only_artefact()


def only_artefact(**data):
    (artefact,) = plan(**TINY["language_model"].content({"data": data})).artefacts.values()
    return artefact


def made(artefact, folder) -> dict[str, bytes]:
    prepare(TASKS.find("language_model"), artefact.spec, folder, say=lambda _: None)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_document_comes_back_once_and_whole(spec, tmp_path):
    made(spec, tmp_path / "p")
    text = open_prepared(tmp_path / "p")
    tokenizer, found = read_tokenizer(text.tokenizer, ""), []
    end = end_of_text(tokenizer)
    for split in SPLITS:
        stream = text.stream(["plants"], split)
        tokens = stream.read(0, len(stream))
        assert tokens[-1] == end and text.documents("plants", split) == (tokens == end).sum()
        parts = np.split(tokens, np.flatnonzero(tokens == end) + 1)[:-1]
        found += [tokenizer.decode(part[:-1].tolist()) for part in parts]
    documents = (tmp_path / "data/tiny/plants.txt").read_text().split("\n\n")
    assert sorted(found) == sorted(documents)
    shards = [shard for split in SPLITS for shard in text.manifest["domains"]["plants"][split]]
    assert sum(shard["bytes"] for shard in shards) == sum(len(document.encode()) for document in documents)


def test_documents_that_say_the_same_stay_together():
    texts = ["A cell of the retina.", "a CELL, of the  retina", "A cell of the retina!"]
    for number in range(40):
        one = {split_of(Document("", f"{text} {number}"), (0.5, 0.25, 0.25)) for text in texts}
        assert len(one) == 1
    splits = [split_of(Document("", str(n)), (0.8, 0.1, 0.1)) for n in range(4000)]
    assert [splits.count(name) / 4000 for name in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_an_interrupted_preparation_goes_on_and_gives_the_same(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SHARD_CHARACTERS", 500)  # several shards a split
    whole = made(spec, tmp_path / "whole")
    assert sum(name.endswith(".tokens") for name in whole) > 8
    made(spec, tmp_path / "torn")
    shards = sorted((tmp_path / "torn").glob("*.json"))
    kept = (tmp_path / "torn" / "animals-train-00000.tokens").stat().st_mtime_ns
    (tmp_path / "torn/manifest.json").unlink()
    shards[3].with_suffix(".tokens").write_bytes(b"torn")
    shards[3].unlink()
    assert made(spec, tmp_path / "torn") == whole
    assert (tmp_path / "torn" / "animals-train-00000.tokens").stat().st_mtime_ns == kept


def test_a_larger_share_contains_a_smaller_one(spec, tmp_path):
    made(spec, tmp_path / "p")
    text = open_prepared(tmp_path / "p")
    shares = [text.stream(["animals"], "train", share, 7) for share in (0.01, 0.3, 0.6, 1.0)]
    documents = [{bytes(piece) for piece in stream.pieces} for stream in shares[:3]]
    assert len(documents[0]) == 1 and documents[0] <= documents[1] <= documents[2]
    assert len(shares[1]) < len(shares[2]) < len(shares[3])
    assert {bytes(p) for p in text.stream(["animals"], "train", 0.3, 8).pieces} != documents[1]


def test_a_stream_has_no_end():
    stream = TokenStream([np.arange(3), np.arange(3, 4), np.arange(4, 9)])
    for start in range(20):
        for length in (1, 4, 25):
            assert stream.read(start, length).tolist() == [(start + i) % 9 for i in range(length)]


def test_tokens_take_two_bytes_where_they_fit():
    assert token_type(65_536) is np.uint16 and token_type(65_537) is np.uint32


def test_lines_and_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "één"}\n\n{"text": "two", "more": 1}\n')
    parquet.write_table(pyarrow.table({"text": ["x", None, "y"], "n": [1, 2, 3]}), tmp_path / "b.parquet")
    assert list(read_texts(tmp_path / "a.jsonl")) == ["één", "two"]
    assert list(read_texts(tmp_path / "b.parquet")) == ["x", "y"]


STRINGS = [pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()]


@pytest.mark.parametrize("kind", [*STRINGS, pyarrow.dictionary(pyarrow.int32(), pyarrow.string())], ids=str)
def test_a_column_of_any_kind_of_string_is_read(tmp_path, kind):
    parquet.write_table(pyarrow.table({"text": pyarrow.array(["x", None, "y"]).cast(kind)}), tmp_path / "a.parquet")
    assert parquet.read_schema(tmp_path / "a.parquet").types == [kind]
    assert list(read_texts(tmp_path / "a.parquet")) == ["x", "y"]


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.dictionary(pyarrow.int32(), pyarrow.binary())], ids=str)
def test_a_column_that_is_no_string_is_refused(tmp_path, kind):
    parquet.write_table(pyarrow.table({"text": pyarrow.array([b"x"]).cast(kind)}), tmp_path / "a.parquet")
    with pytest.raises(Refusal, match=r"a.parquet: its column text is of type binary; write it as string"):
        list(read_texts(tmp_path / "a.parquet"))


def test_a_parquet_file_beyond_memory_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise pyarrow.ArrowMemoryError("malloc of size 9 failed")

    parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *_, **__: map(full, [1]))
    with pytest.raises(Refusal, match=r"a.parquet: unpacks to more than the memory there is"):
        list(read_texts(tmp_path / "a.parquet"))


def test_a_parquet_file_is_read_a_little_at_a_time(tmp_path):
    """Though it is one row group: 40 MB, of which a few are in memory at once."""
    file, rows = tmp_path / "a.parquet", [f"{number} " + f"{number:09}" * 1000 for number in range(4500)]
    table = pyarrow.table({"text": rows})
    parquet.write_table(table, file, len(rows), compression="none", use_dictionary=False, write_batch_size=16)
    del table
    assert file.stat().st_size > 40e6
    before, most = pyarrow.total_allocated_bytes(), 0
    for text, row in zip(read_texts(file), rows, strict=True):
        assert text == row
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < 15e6


def test_a_shard_is_the_same_however_many_texts_are_encoded_at_a_time(spec, tmp_path, monkeypatch):
    made(spec, tmp_path / "p")
    texts = (tmp_path / "data/tiny/plants.txt").read_text().split("\n\n")
    for folder, count in (("few", 7), ("all", 1000)):
        monkeypatch.setattr(shards, "TEXTS_AT_ONCE", count)
        (tmp_path / folder).mkdir()
        shards.write_shard(tmp_path / folder, "s", texts, tmp_path / "p/tokenizer.json")
    for name in ("s.tokens", "s.index", "s.json"):
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


FAULTS = [
    ("a.jsonl", b'{"text": "x"}\n{"txt": 1}\n', r"a.jsonl:2: is not a JSON object with a text field"),
    ("a.jsonl", b"[1]\n", r"a.jsonl:1: is not"),
    ("a.jsonl", b"[" * 200_000, r"a.jsonl:1: is not"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "\\ud800"}\n', r"a.jsonl:2: has half a character"),
    ("a.txt", b"\xff\xfe", "a.txt: is not UTF-8"),
    ("a.parquet", b"PAR1", "a.parquet: is not a parquet file"),
]


@pytest.mark.parametrize(("name", "content", "line"), FAULTS)
def test_a_bad_file_is_named(tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=line):
        list(read_texts(tmp_path / name))


def test_a_domain_needs_a_document_of_each_split(spec, tmp_path):
    (tmp_path / "data/tiny/lonely.txt").write_text("one document")
    with pytest.raises(Refusal, match="domain lonely has no"):
        made(only_artefact(), tmp_path / "p")
    assert not (tmp_path / "p/manifest.json").exists()


def test_the_text_names_its_tokens(spec, tmp_path):
    assert only_artefact().name == spec.name
    (tmp_path / "data/tiny").rename(tmp_path / "data/moved")
    assert only_artefact(path="data/moved").name == spec.name
    (tmp_path / "data/moved/animals.txt").write_text("another text")
    assert only_artefact(path="data/moved").name != spec.name


@pytest.mark.parametrize("step", [None, "train_tokenizer", "_in_parallel"])
def test_a_text_that_changes_after_it_was_planned_is_refused(spec, tmp_path, monkeypatch, step):
    """Before it is prepared, or while it is; restored, it gives what it gives undisturbed."""
    whole, file = made(spec, tmp_path / "whole"), tmp_path / "data/tiny/animals.txt"
    planned = file.read_bytes()
    change = partial(file.write_bytes, planned.replace(b"cat", b"ape"))
    with monkeypatch.context() as disturbed:
        if step is None:
            change()
        else:
            then = getattr(preparation, step)
            disturbed.setattr(preparation, step, lambda *given: (change(), then(*given))[1])
        with pytest.raises(Refusal, match=r"data.path: data/tiny changed since it was planned \(animals\); run the"):
            made(spec, tmp_path / "p")
    assert not (tmp_path / "p/manifest.json").exists()
    file.write_bytes(planned)
    assert made(spec, tmp_path / "p") == whole


def test_a_tokenizer_that_changes_after_it_was_planned_is_refused(spec, tmp_path):
    words("[UNK]").save(str(tmp_path / "tokenizer.json"))
    given = only_artefact(tokenizer="tokenizer.json", vocab_size=None)
    words("[unk]").save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(Refusal, match=r"data.tokenizer: tokenizer.json changed since it was planned; run the study"):
        made(given, tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("damage", ["tokenizer", "tokens", "missing"])
def test_tokenizer_and_shards_that_do_not_belong_together_are_refused(spec, tmp_path, damage):
    made(spec, tmp_path / "p")
    if damage == "tokenizer":
        other = only_artefact(vocab_size=280)
        made(other, tmp_path / "other")
        (tmp_path / "p/tokenizer.json").write_bytes((tmp_path / "other/tokenizer.json").read_bytes())
    shard = tmp_path / "p/animals-train-00000.tokens"
    if damage == "tokens":
        shard.write_bytes(shard.read_bytes()[:-2])
    if damage == "missing":
        shard.unlink()
    line = "not the one its shards were made with" if damage == "tokenizer" else "missing or not of the size"
    with pytest.raises(Refusal, match=line):
        open_prepared(tmp_path / "p")


def words(unknown: str | None) -> Tokenizer:
    names = {"<|endoftext|>": 0, "cat": 1, "dog": 2} | ({unknown: 3} if unknown else {})
    tokenizer = Tokenizer(models.WordLevel(names, unk_token=unknown or "<none>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_tokenizer_that_was_given_is_used(spec, tmp_path):
    words("[UNK]").save(str(tmp_path / "tokenizer.json"))
    given = only_artefact(tokenizer=str(tmp_path), vocab_size=None)
    assert given.name != spec.name
    made(given, tmp_path / "p")
    assert open_prepared(tmp_path / "p").vocab_size == 4
    assert json.loads((tmp_path / "p/manifest.json").read_text())["spec"].get("vocab_size") is None


def test_a_tokenizer_in_the_two_files_of_gpt2_is_used(spec, tmp_path):
    made(spec, tmp_path / "p")
    ours = read_tokenizer(open_prepared(tmp_path / "p").tokenizer, "")
    (tmp_path / "gpt2").mkdir()
    ours.model.save(str(tmp_path / "gpt2"))
    given = only_artefact(tokenizer="gpt2", vocab_size=None)
    assert given.name != spec.name
    made(given, tmp_path / "q")
    theirs = read_tokenizer(open_prepared(tmp_path / "q").tokenizer, "")
    sentence = "cat number 3, größer<|endoftext|>oak"
    assert theirs.encode(sentence).ids == ours.encode(sentence).ids and theirs.get_vocab_size() == ours.get_vocab_size()


def test_what_a_given_tokenizer_cuts_pads_or_samples_is_left_out(spec, tmp_path):
    made(spec, tmp_path / "p")
    plain = Tokenizer.from_file(str(tmp_path / "p/tokenizer.json"))
    altered = Tokenizer.from_str(plain.to_str())
    altered.enable_truncation(4)
    altered.enable_padding(length=64)
    altered.model.dropout = 0.5
    altered.save(str(tmp_path / "tokenizer.json"))
    made(only_artefact(tokenizer="tokenizer.json", vocab_size=None), tmp_path / "q")
    ours, theirs = open_prepared(tmp_path / "p"), open_prepared(tmp_path / "q")
    assert theirs.manifest["domains"] == ours.manifest["domains"]
    streams = [text.stream(text.domains, "train") for text in (ours, theirs)]
    assert np.array_equal(*(stream.read(0, len(streams[0])) for stream in streams))
    prompt = "cat number 3 is a thing of the animals"
    assert encode_prompt(read_tokenizer(theirs.tokenizer, ""), prompt) == encode_prompt(plain, prompt)


def test_unknown_characters_are_named():
    assert encode_prompt(words("[UNK]"), "cat dog") == [1, 2]
    with pytest.raises(Refusal, match="prompt: e s w unknown"):
        encode_prompt(words("[UNK]"), "cat ewes")


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(Refusal, match="has no token that ends a text"):
        read_tokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).to_str(), "mine.json")
    with pytest.raises(Refusal, match=r"mine.json: is not a tokenizer.json"):
        read_tokenizer("{}", "mine.json")


def test_a_tokenizer_that_numbers_a_token_beyond_its_count_is_refused():
    """A model has a row for each of so many tokens, and no row for that one."""
    gap = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "cat": 70_000}, unk_token="cat")).to_str()
    with pytest.raises(Refusal, match=r"mine.json: numbers one of its 2 tokens 70000; number them from 0 to 1"):
        read_tokenizer(gap, "mine.json")
