"""The language model: its architecture, sampling, generation, batches, measuring, export."""

import json
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from conftest import plan
from tiny import TINY, write_texts
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from rootstock.engine.attention import plain_is_quicker
from rootstock.engine.low_rank import add_low_rank
from rootstock.engine.optimizers import muon
from rootstock.engine.progress import Context
from rootstock.engine.schedule import make_schedule
from rootstock.job.prepare import prepare
from rootstock.study.code import code_digest
from rootstock.study.problems import Refusal, StudyError
from rootstock.study.spec import Course
from rootstock.tasks.language_model.card import card
from rootstock.tasks.language_model.export import export
from rootstock.tasks.language_model.generate import generate_text, stream_text, stream_tokens
from rootstock.tasks.language_model.loss import CHUNK, NOT_COUNTED, summed_loss
from rootstock.tasks.language_model.measure import EVALUATION_WINDOWS, Measure, together
from rootstock.tasks.language_model.model import LanguageModel, plain_attention, within
from rootstock.tasks.language_model.sampling import Sampling, draw, probabilities
from rootstock.tasks.language_model.settings import Model
from rootstock.tasks.language_model.shards import TokenStream, open_prepared
from rootstock.tasks.language_model.specs import ResumedFrom
from rootstock.tasks.language_model.task import NETWORK, SAME_CODE, UPDATES
from rootstock.tasks.language_model.tokenizer import end_of_text, read_tokenizer
from rootstock.tasks.language_model.trainee import TextTrainee

SHAPE = Model(d_model=32, n_heads=4, n_layers=2, d_ff=64, context_length=24)
VOCABULARY = 300


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LanguageModel(VOCABULARY, SHAPE)
    for weight in model.parameters():  # far from the initial near-uniform predictions, so that mistakes show
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The tiny study's text, prepared, and the spec of its trunk."""
    folder = tmp_path_factory.mktemp("text")
    write_texts(folder / "data")
    content = TINY["language_model"].content({"data": {"path": str(folder / "data")}})
    planned = plan(**content)
    (artefact,), (base,) = planned.artefacts.values(), planned.bases.values()
    prepare(planned.study.task, artefact.spec, folder / "prepared", say=lambda _: None)
    return open_prepared(folder / "prepared"), base.spec


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


def test_plain_attention_is_the_fused_one():
    """Training in half precision on a CPU takes it where it is the quicker; values and gradients are the same."""
    assert plain_is_quicker(torch.device("cpu"), torch.bfloat16, 128)
    assert not plain_is_quicker(torch.device("cpu"), torch.float32, 128)
    assert not plain_is_quicker(torch.device("cuda"), torch.bfloat16, 128)
    generator, found = torch.Generator().manual_seed(0), []
    inputs = torch.randn(3, 2, 4, 20, 8, generator=generator)
    seen = within(torch.arange(20).expand(2, 20) // 7)
    for attend in (
        plain_attention,
        partial(scaled_dot_product_attention, is_causal=True),
        partial(plain_attention, mask=seen),
        partial(scaled_dot_product_attention, attn_mask=seen),
    ):
        q, k, v = inputs.clone().requires_grad_().unbind()
        parts = (q, k, v)
        for part in parts:
            part.retain_grad()
        mixed = attend(q, k, v)
        mixed.square().sum().backward()
        found.append([mixed, *(part.grad for part in parts)])
    for plain, fused in (found[:2], found[2:]):
        torch.testing.assert_close(plain, fused)
    assert not torch.allclose(found[0][0], found[2][0])


def test_the_network_is_known_as_the_code_that_made_earlier_models():
    """What `same_code` says: models of then load, and so the digests below stay."""
    known = (((NETWORK,), "7955dea229e1e490"), ((NETWORK, UPDATES), "27a98a65c93fef5d"))
    for sources, code in known:
        found = code_digest(sources)
        assert SAME_CODE.get(found, found) == code, found


def test_an_untrained_model_knows_nothing():
    torch.manual_seed(0)
    x = tokens(8, 25)
    loss = LanguageModel(VOCABULARY, SHAPE)(x[:, :-1], x[:, 1:]) / x[:, 1:].numel()
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=0.05)


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_in_chunks_is_torchs_cross_entropy(monkeypatch, precision, is_frozen):
    monkeypatch.setitem(CHUNK, "cpu", 5 * 37)  # 5 tokens a chunk, the last of 3
    torch.manual_seed(0)
    hidden, weight = torch.randn(23, 12, requires_grad=True), torch.randn(37, 12, requires_grad=not is_frozen)
    targets = torch.randint(37, (23,)).index_fill(0, torch.tensor([3, 7, 22]), NOT_COUNTED)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        ours = summed_loss(hidden, weight, targets)
        plain = cross_entropy((hidden @ weight.T).float(), targets, reduction="sum", ignore_index=NOT_COUNTED)
    learning = [hidden] if is_frozen else [hidden, weight]
    torch.testing.assert_close(ours, plain.double(), rtol=1e-6, atol=0)
    near = {"rtol": 1e-4, "atol": 1e-5} if precision == torch.float32 else {"rtol": 2e-2, "atol": 5e-2}
    torch.testing.assert_close(
        torch.autograd.grad(3 * ours, learning), torch.autograd.grad(3 * plain, learning), **near
    )


def test_the_order_of_the_past_matters_and_the_future_does_not(model):
    x = tokens(1, 12)
    swapped, later = x.clone(), x.clone()
    swapped[0, [2, 5]] = x[0, [5, 2]]
    later[0, -1] = (x[0, -1] + 1) % VOCABULARY
    logits = model(x)
    assert (logits[0, -1] - model(swapped)[0, -1]).abs().max() > 1e-2
    torch.testing.assert_close(logits[0, :-1], model(later)[0, :-1])


def test_positions_are_relative(model):
    """Rotary positions: shifting all of them by one, as padding on the left would, changes nothing."""
    x = tokens(1, 10)
    shifted = model.new_cache(torch.tensor([0]))
    shifted_logits = model.next_logits(x, shifted)
    model.cos, model.sin = model.cos.roll(-3, 0), model.sin.roll(-3, 0)
    torch.testing.assert_close(shifted_logits, model(x)[:, -1], atol=1e-4, rtol=1e-4)


def test_a_target_of_minus_100_does_not_count(model):
    x, y = tokens(2, 10), tokens(2, 10)
    half = y.clone()
    half[:, 5:] = -100
    torch.testing.assert_close(model(x, half), model(x[:, :5], y[:, :5]))


def test_cached_logits_equal_uncached_ones(model):
    x = tokens(3, SHAPE.context_length)
    cache = model.new_cache(torch.zeros(3, dtype=torch.int64))
    found = [model.next_logits(x[:, :5], cache)]
    found += [model.next_logits(x[:, i : i + 1], cache) for i in range(5, SHAPE.context_length)]
    torch.testing.assert_close(torch.stack(found, 1), model(x)[:, 4:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lengths", [(3, 9, 1), (24, 2, 30), (0, 23, 24)])
def test_a_batch_gives_what_each_prompt_gets_alone(model, lengths):
    """Beyond the context too, where each row forgets its own oldest half."""
    rows = [tokens(1, max(n, 1))[0, :n].tolist() for n in lengths]
    settings = Sampling(max_length=40, seed=3, temperature=1.0, top_k=0, top_p=1.0)
    together = list(zip(*stream_tokens(model, rows, 0, settings), strict=True))
    for row, written in zip(rows, together, strict=True):
        alone = [token for (token,) in stream_tokens(model, [row], 0, settings)]
        assert [token for token in written if token is not None] == alone and len(alone) > 5


def test_generation_stops_at_the_end_of_text(model):
    settings = Sampling(max_length=60, temperature=0)
    (first,) = next(stream_tokens(model, [[5, 6]], -1, settings))
    assert list(stream_tokens(model, [[5, 6]], first, settings)) == []


LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature(temperature):
    found = probabilities(LOGITS, Sampling(temperature=temperature, top_k=0, top_p=1.0))
    torch.testing.assert_close(found, (LOGITS.double() / temperature).softmax(1))


def test_greedy_takes_the_likeliest():
    assert probabilities(LOGITS.flip(1), Sampling(temperature=0)).tolist() == [[0, 0, 0, 0, 0, 1]]


def test_top_k_keeps_the_likeliest_in_proportion():
    found = probabilities(LOGITS, Sampling(temperature=1.0, top_k=2, top_p=1.0))[0]
    assert found[2:].sum() == 0 and found[0] / found[1] == pytest.approx(math.e)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    all_of_it = LOGITS.double().softmax(1)[0]
    for top_p in (0.3, 0.7, 0.9, 0.999):
        kept = int((probabilities(LOGITS, Sampling(temperature=1.0, top_k=0, top_p=top_p))[0] > 0).sum())
        assert all_of_it[:kept].sum() >= top_p > all_of_it[: kept - 1].sum()


def test_draws_follow_the_probabilities():
    """Chi-square over 20,000 draws; the limit is far beyond the 99.99 % quantile for 5 degrees of freedom."""
    chances = probabilities(LOGITS, Sampling(temperature=1.3, top_k=0, top_p=1.0))
    generator, n = torch.Generator().manual_seed(0), 20_000
    counts = torch.bincount(torch.tensor([draw(chances, [generator])[0] for _ in range(n)]), minlength=6)
    assert (((counts - n * chances[0]) ** 2) / (n * chances[0])).sum() < 26


def trainee(text, **changes) -> TextTrainee:
    prepared, spec = text
    spec = spec.model_copy(update=changes)
    model = LanguageModel(prepared.vocab_size, spec.model)
    streams = [prepared.stream(prepared.domains, split) for split in ("train", "val")]
    return TextTrainee(model, prepared.tokenizer, *streams, spec, Context(torch.device("cpu")))


def all_batches(some: TextTrainee) -> list[list[int]]:
    return [batch.tolist() for epoch in range(1, some.spec.course().epochs + 1) for batch in some.batches(epoch)]


def test_a_budget_is_obeyed_to_the_step_and_a_longer_one_begins_alike(text):
    short, long = (all_batches(trainee(text, max_steps=n)) for n in (22, 40))
    assert len(short) == 22 and len(long) == 40 and long[:22] == short
    assert all_batches(trainee(text, max_steps=22, eval_every=5)) == short


def test_a_pass_sees_each_window_once(text):
    some = trainee(text, max_steps=200)
    per_pass = len(some.train) // some.context_length
    seen = [start for batch in all_batches(some) for start in batch]
    first, second = seen[:per_pass], seen[per_pass : 2 * per_pass]
    assert len(set(first)) == per_pass and {b - a for a, b in zip(sorted(first), sorted(first)[1:], strict=False)} == {
        16
    }
    assert first != second


def test_a_resumed_training_with_another_batch_goes_on_where_it_was(text):
    straight = all_batches(trainee(text, max_steps=22))
    mark = ResumedFrom(hash="0" * 16, step=8, samples=32, epoch=2, batch=2)
    resumed = trainee(text, max_steps=22, batch_size=2, resumed_from=mark)
    batches = [
        resumed.batches(2)[2:],
        *(resumed.batches(epoch) for epoch in range(3, resumed.spec.course().epochs + 1)),
    ]
    taken = [start for stretch in batches for batch in stretch for start in batch.tolist()]
    assert sum(map(len, batches)) == 22 - 8
    assert taken == [start for batch in straight[8:15] for start in batch]


def alone(stream: TokenStream, start: int, end: int) -> list[torch.Tensor]:
    """The tokens of a window, the target of its last one too, cut so that each piece is of one document: it begins with the token
    that ended the one before, and its last token is only told."""
    window = torch.from_numpy(stream.read(start, 17))
    ends = [0, *(window[:-1] == end).nonzero().flatten().tolist(), 16]
    return [window[a : b + 1][None] for a, b in pairwise(ends) if b > a]


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bf16", 0.03)])
def test_masked_documents_are_learned_as_if_each_stood_alone(text, precision, rounding):
    """Also in the attention that half precision takes on CPUs. Without masks there are other gradients."""
    some, end = trainee(text, mask_documents=True), end_of_text(read_tokenizer(text[0].tokenizer, ""))
    for weight in some.model.parameters():  # or hardly anything is attended to
        torch.nn.init.normal_(weight, std=0.3)
    starts, across = torch.arange(0, 160, 16), trainee(text)
    pieces = [piece for start in starts.tolist() for piece in alone(some.train, start, end)]
    assert len(pieces) > 1.5 * len(starts) and sum(piece.shape[1] - 1 for piece in pieces) == 160

    def gradient(loss) -> torch.Tensor:
        some.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            total = loss()
        total.backward()
        return torch.cat([weight.grad.flatten() for weight in some.model.parameters()])

    masked = gradient(lambda: some.loss(some.model, starts, 1))
    each = gradient(lambda: sum(some.model(piece[:, :-1], piece[:, 1:]) / 16 for piece in pieces))
    other = gradient(lambda: across.loss(some.model, starts, 1))
    assert (masked - each).norm() < rounding * masked.norm() and (masked - other).norm() > 0.1 * masked.norm()


def test_masked_documents_are_measured_as_if_each_stood_alone(text):
    some, end = trainee(text, mask_documents=True), end_of_text(read_tokenizer(text[0].tokenizer, ""))
    torch.manual_seed(0)
    for weight in some.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    whole = TokenStream([some.check.read(0, 81)])
    pieces = [piece for start in range(0, 80, 16) for piece in alone(whole, start, end)]
    losses = [some.model(piece[:, :-1], piece[:, 1:]).item() for piece in pieces]
    assert len(pieces) > 6 and some.measure(whole)["loss"] == pytest.approx(sum(losses) / 80, rel=1e-5)
    masked, some.measure.boundary = some.evaluate(), None
    across = some.evaluate()
    assert masked["tokens"] == across["tokens"]  # both are of the same predictions
    assert masked["loss"] != pytest.approx(across["loss"], rel=1e-5)  # far beyond what an order of sums changes


def test_masks_are_named_only_where_they_are_and_go_on_to_branches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")

    def hashes(base, branch):
        planned = plan(**TINY["language_model"].content({"base": base}, {"finetune": branch}))
        return [(one.hash, one.spec.mask_documents) for one in (*planned.bases.values(), *planned.experiments.values())]

    masked, plain = {"mask_documents": True}, {"mask_documents": False}
    assert hashes({}, {}) == hashes(plain, plain) and not any(is_masked for _, is_masked in hashes({}, {}))
    assert [is_masked for _, is_masked in hashes(masked, {})] == [True, True]
    assert [is_masked for _, is_masked in hashes(masked, plain)] == [True, False]
    assert not set(hashes(masked, {})) & set(hashes({}, {})) and hashes({}, masked)[0] == hashes({}, {})[0]


def test_each_token_is_measured_once(text):
    prepared, spec = text
    model = LanguageModel(prepared.vocab_size, spec.model)
    stream = prepared.stream(["animals"], "test")
    found = Measure(model, 16, "float32", Context(torch.device("cpu")))(stream)
    assert found["tokens"] == len(stream) - 1
    for length in (9, 17, 16 * EVALUATION_WINDOWS + 9):  # a single window, whole or not, in a text or left over
        short = TokenStream([stream.read(0, length)])
        assert Measure(model, 16, "float32", Context(torch.device("cpu")))(short)["tokens"] == length - 1
    x = torch.from_numpy(stream.read(0, 17))[None]
    only = Measure(model, 16, "float32", Context(torch.device("cpu")))(stream, most_tokens=16)
    assert only["loss"] == pytest.approx(model(x[:, :-1], x[:, 1:]).item() / 16, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    parts = [{"loss": 1.0, "tokens": 30}, {"loss": 4.0, "tokens": 10}]
    assert together(parts) == {"loss": 1.75, "perplexity": math.exp(1.75), "tokens": 40}


def test_wsd_rises_stays_and_falls_to_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make_schedule("wsd", optimizer, 2.0, 20, 4, 0.25)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0] and rates[4:16] == [2.0] * 12
    assert rates[16:] == pytest.approx([1.6, 1.2, 0.8, 0.4]) and optimizer.param_groups[0]["lr"] == 0


def test_muon_takes_the_matrices_and_follows_the_schedule(model):
    optimizer = muon(model, 0.02, 0.1, Course(epochs=1, decay_vectors=False))
    taken = {id(p) for group in optimizer.parts[0].param_groups for p in group["params"]}
    assert len(taken) == 7 * SHAPE.n_layers and id(model.embedding.weight) not in taken
    schedule = make_schedule("linear", optimizer, 0.02, 10, 1)
    before = model.blocks[0].attention.query.weight.detach().clone()
    x = tokens(2, 20)
    model(x[:, :-1], x[:, 1:]).mean().backward()
    optimizer.step()
    schedule.step()
    change = before - model.blocks[0].attention.query.weight.detach()
    singular = torch.linalg.svdvals(change)
    assert singular[0] / singular[-4] < 4  # orthogonalised: all directions change alike
    assert {group["lr"] for part in optimizer.parts for group in part.param_groups} == {optimizer.param_groups[0]["lr"]}
    again = muon(model, 0.5, 0.1, Course(epochs=1, decay_vectors=False))
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == again.parts[0].param_groups[0]["lr"]


def test_muon_of_low_rank_updates_is_adamw_and_of_matrices_alone_muon(model):
    layers = add_low_rank(model, 2, 4.0)
    (adamw,) = muon(model, 0.02, 0.1, Course(epochs=1)).parts
    assert isinstance(adamw, torch.optim.AdamW) and len(adamw.param_groups[0]["params"]) == 2 * len(layers) > 0
    model.requires_grad_(False).blocks[0].attention.query.weight.requires_grad_(True)
    (of_matrix,) = muon(model, 0.02, 0.1, Course(epochs=1)).parts
    assert isinstance(of_matrix, torch.optim.Muon)


def test_an_exported_model_gives_the_same_logits(model, text, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prepared, _ = text
    model = LanguageModel(prepared.vocab_size, SHAPE).eval()
    spec = {"model": SHAPE.model_dump(), "data": {"domains": ["animals"]}}
    torch.save({"model": model.state_dict(), "tokenizer": prepared.tokenizer}, tmp_path / "model.pt")
    metrics = {"parameters": 1, "base": {"animals": {"loss": 1.0, "perplexity": 2.7}}}
    export(tmp_path / "model.pt", {"spec": spec, "hash": "0" * 16, "metrics": metrics}, None, {}, tmp_path, print)
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    sentence = "cat number 7 is a thing"
    ids = tokenizer(sentence, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == read_tokenizer(prepared.tokenizer, "").encode(sentence).ids
    torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-4, rtol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ({"domains": ["cells"], "version": "v", "content": None}, "- cells: Cell Ontology, CC BY 4.0, v2026-03-26"),
        ({"domains": ["mine"], "content": {"mine": "0"}}, "Text of its maker's own, whose licences apply"),
    ],
)
def test_a_card_has_licence_sources_and_an_example(data, source):
    metrics = {"parameters": 1, "base": {"animals": {"loss": 1.0, "perplexity": 2.7}}}
    text = card("mine", {"spec": {"data": data}, "hash": "0" * 16, "metrics": metrics}, SHAPE)
    assert source in text and "license: other\n" in text and 'pipeline("text-generation", "mine")' in text


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_text_are_whole_characters_and_together_the_text(text, seed):
    prepared, spec = text
    model, tokenizer = LanguageModel(prepared.vocab_size, spec.model), read_tokenizer(prepared.tokenizer, "")
    settings = Sampling(max_length=200, seed=seed, temperature=5.0, top_k=0, top_p=1.0)  # all kinds of bytes
    pieces = list(stream_text(model, tokenizer, "cat", settings))
    assert "".join(pieces) == generate_text(model, tokenizer, "cat", **settings.model_dump())
    assert len(pieces) > 5 and not any(piece.endswith("\ufffd") for piece in pieces[:-1])


def test_text_from_python(text):
    prepared, spec = text
    model, tokenizer = LanguageModel(prepared.vocab_size, spec.model), read_tokenizer(prepared.tokenizer, "")
    one = generate_text(model, tokenizer, "cat", max_length=5, seed=0)
    two = generate_text(model, tokenizer, ["a long prompt", "cat"], max_length=5, seed=0)
    assert isinstance(one, str) and two[1] == one


BAD = [
    ({"base": {"d_model": 30, "n_heads": 4}}, "base.d_model: 30 is not divisible by n_heads: 4"),
    ({"base": {"d_model": 12, "n_heads": 4}}, "base.d_model: 12 leaves 3 for each of 4 heads"),
    ({"base": {"warmup_steps": 99}}, "base.warmup_steps: 99 is more than max_steps: 22"),
    ({"base": {"decay_pct": 0.2}}, "base.decay_pct: 0.2 is for schedule wsd, not cosine"),
    ({"data": {"vocab_size": 5}}, "data.vocab_size: 5 needs a number of at least 257"),
    ({"data": {"path": "nowhere"}}, 'data.path: "nowhere" is not a folder'),
    ({"data": {"path": "none"}}, 'data.path: "none" holds no text'),
    ({"data": {"path": "named"}}, 'data.path: "general" is what all text together is called'),
    ({"data": {"path": "named"}}, 'data.path: "a\\u0007b" is no name for a domain'),
    ({"data": {"path": "hollow"}}, "is empty; remove it or give it text"),
    ({"data": {"domains": ["stones"]}}, 'data.domains: "stones" unknown'),
    ({"data": {"tokenizer": "x.json", "vocab_size": None}}, 'data.tokenizer: "x.json" is neither a tokenizer.json'),
    ({"data": {"split": [0.5, 0.2, 0.2]}}, "data.split: [0.5, 0.2, 0.2] needs three shares"),
    ({"domains": ["stones"]}, 'domains: "stones" unknown'),
    ({"finetune": {"mode": "cool_down"}}, "finetune.target_data_pct: 0.5 is of a domain"),
    (
        {"finetune": {"mode": "last_layers_only", "trained_layers": 3}},
        "finetune.trained_layers: 3 is more than n_layers",
    ),
    ({"finetune": {"trained_layers": 1}}, "finetune.trained_layers: 1 needs mode last_layers_only"),
    ({"base": {"optimizer": "adam"}}, 'base.optimizer: "adam" unknown; did you mean adamw?'),
]


@pytest.mark.parametrize(("change", "line"), BAD)
def test_bad_settings_are_told_in_one_line(tmp_path, monkeypatch, change, line):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")
    (tmp_path / "none").mkdir()
    write_texts(tmp_path / "named/general")
    write_texts(tmp_path / "named/a\ab")
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow/a.txt").write_text("")
    with pytest.raises(StudyError) as caught:
        plan(**TINY["language_model"].content(change))
    assert line in str(caught.value)


def test_a_grid_makes_cool_downs_of_the_trunk_and_branches_of_domains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")
    base = {"max_steps": [12, 24], "schedule": "constant"}
    finetune = [
        {"mode": "cool_down", "max_steps": 6},
        {"mode": "full_fine_tuning", "target_data_pct": [0.5, 1.0], "branch_at": 24},
    ]
    content = TINY["language_model"].content({"base": base}) | {"domains": ["animals", "plants"], "finetune": finetune}
    planned = plan(**content)
    short, long = sorted(planned.bases.values(), key=lambda base: base.spec.max_steps)
    assert long.continues == short.hash and len(planned.bases) == 2
    found = sorted((e.unit, e.settings["mode"], e.settings["base_max_steps"]) for e in planned.experiments.values())
    branches = [(unit, "full_fine_tuning", 24) for unit in ("animals", "animals", "plants", "plants")]
    assert found == sorted([*branches, ("general", "cool_down", 12), ("general", "cool_down", 24)])
    assert next(e for e in planned.experiments.values() if e.unit == "general").spec.schedule == "linear"


def test_a_file_with_code_or_another_vocabulary_is_refused(text, tmp_path):
    import pickle

    from rootstock.tasks.language_model.generate import load_model_from_checkpoint

    prepared, spec = text
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(Refusal, match="more than tensors"):
        load_model_from_checkpoint(tmp_path / "code.pt", "cpu")
    weights = LanguageModel(prepared.vocab_size + 1, spec.model).state_dict()
    content = {
        "model": weights,
        "spec": json.loads(spec.model_dump_json()),
        "tokenizer": prepared.tokenizer,
        "hash": "0" * 16,
    }
    torch.save(content, tmp_path / "wide.pt")
    with pytest.raises(Refusal, match="vocabulary of"):
        load_model_from_checkpoint(tmp_path / "wide.pt", "cpu")


def test_a_branch_at_where_no_trunk_ends_is_told(tmp_path):
    write_texts(tmp_path)
    data = {"data": {"path": str(tmp_path), "vocab_size": 300}}
    base = {"base": {"max_steps": [24, 12], "schedule": "constant", "warmup_steps": 0}}
    line = "finetune.branch_at: 18 is the max_steps of no trunk; here they have 12, 24"
    for branch in ({"branch_at": 18}, {"branch_at": [12, 18]}, {"mode": "cool_down", "branch_at": 18}):
        with pytest.raises(StudyError) as told:
            plan(**TINY["language_model"].content(data, base) | {"finetune": branch})
        assert told.value.lines == [line]
    odd = TINY["language_model"].content(data, base, {"base": {"d_model": 15}})
    with pytest.raises(StudyError) as told:
        plan(**odd | {"finetune": {"branch_at": 18, "rank": 2}})
    heads = "base.d_model: 15 is not divisible by n_heads: 2; change one of them"
    assert told.value.lines == [line, heads, "finetune.rank: 2 needs mode lora, not full_fine_tuning"]
    planned = plan(**TINY["language_model"].content(data, base) | {"finetune": {"branch_at": [12, 24]}})
    assert len(planned.experiments) == 2
    with pytest.raises(
        StudyError, match=r"jobs\[0\] finetune.branch_at: 18 is not max_steps of its trunk: 24; change one"
    ):
        plan(task="language_model", **data, jobs=[{"domain": "animals", "max_steps": 24, "branch_at": 18}])
