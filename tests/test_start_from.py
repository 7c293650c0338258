"""A trunk that begins with a pretrained Llama: the same logits on the way in and out, and a folder that is not trusted."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Project, job_of, plan, prepared, ran
from tiny import TINY, write_texts

from rootstock import load_model
from rootstock.engine.files import load
from rootstock.job.train import train
from rootstock.study.problems import Refusal, StudyError
from rootstock.tasks.language_model.check import check
from rootstock.tasks.language_model.llama import llama_name, shape_of, sizes_of
from rootstock.tasks.language_model.model import LanguageModel
from rootstock.tasks.language_model.tokenizer import train_tokenizer
from rootstock.tasks.language_model.weights import read_weights

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
KINDS = {
    "grouped queries, its own head": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "one key for all, tied": {"num_attention_heads": 4, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "narrow heads, llama3": {"num_attention_heads": 2, "head_dim": 6, "rope_parameters": LLAMA3, "rms_norm_eps": 1e-3},
    "of bfloat16": {"num_attention_heads": 4, "num_key_value_heads": 2, "dtype": torch.bfloat16},
}
TOKENS = torch.arange(40).view(2, 20) * 7
CLEAN = os.environ.get(
    "ROOTSTOCK_CLEAN_PYTHON", sys.executable
)  # that of an environment with transformers and peft alone
ELSEWHERE = """
import sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokens = torch.arange(40).view(2, 20) * 7
trunk = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
whole = trunk(tokens).logits.detach()
branch = PeftModel.from_pretrained(trunk, sys.argv[2]).eval()
assert AutoTokenizer.from_pretrained(sys.argv[1])("a cat")["input_ids"]
assert not [name for name in sys.modules if name.startswith("rootstock")]
torch.save([whole, branch(tokens).logits.detach()], sys.argv[3])
"""
STUDY = {
    "task": "language_model",
    "data": {"path": "data/tiny", "tokenizer": "llama", "split": [0.8, 0.1, 0.1]},
    "domains": ["animals"],
    "base": {
        "start_from": "llama",
        "max_steps": 0,
        "context_length": 20,
        "batch_size": 4,
        "eval_tokens": 128,
        "lr": 0.01,
    },
}


def write_llama(folder: Path, shard: str = "5GB", spare_rows: int = 0, **config) -> None:
    """A random Llama of transformers, far from the zeros that it begins with, and a tokenizer that leaves so many rows unused."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    text = (file.read_text() for file in sorted(write_texts(folder.parent / "data/tiny").iterdir()))
    tokenizer = train_tokenizer(text, 300)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "max_position_embeddings": 64}
    dtype = config.pop("dtype", torch.float32)
    rows = tokenizer.get_vocab_size() + spare_rows
    model = LlamaForCausalLM(LlamaConfig(vocab_size=rows, **sizes, **config)).to(dtype)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder, max_shard_size=shard)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Project:
    """A project with a Llama in it, published as a trunk, trained on, and a branch straight on it."""
    project = Project(tmp_path_factory.mktemp("project"))
    write_llama(project / "llama", shard="10KB", **KINDS["grouped queries, its own head"])
    finetune = [{"mode": "lora", "rank": 2, "max_steps": 6, "warmup_steps": 1, "lr": 0.05}, {"mode": "base_only"}]
    project.publish_here(STUDY | {"finetune": finetune})
    further = {"max_steps": 8, "warmup_steps": 1}
    project.publish_here(STUDY | {"base": STUDY["base"] | further})
    return project


@pytest.fixture
def project(begun, monkeypatch) -> Project:
    monkeypatch.chdir(begun.folder)
    return begun


@pytest.fixture
def llama(tmp_path, monkeypatch) -> Path:
    """A Llama's folder to be harmed, in the working folder of a project."""
    monkeypatch.chdir(tmp_path)
    write_llama(tmp_path / "llama", **KINDS["grouped queries, its own head"])
    return tmp_path / "llama"


def theirs(folder: str) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def trunks() -> dict[int, Path]:
    """The published trunks by their budget."""
    return {load(file)["spec"]["max_steps"]: file for file in Path("base_models").glob("*.pt")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_llama_has_the_same_logits_here_and_its_cache_too(tmp_path, kind):
    write_llama(tmp_path / "llama", **KINDS[kind])
    config = json.loads((tmp_path / "llama/config.json").read_text())
    shape = shape_of(config, 20)
    model = LanguageModel(300, shape).eval()
    assert {name: tuple(weight.shape) for name, weight in model.state_dict().items()} == sizes_of(shape, 300)
    model.load_state_dict(read_weights(tmp_path / "llama", shape, 300))
    wanted = theirs(str(tmp_path / "llama"))(TOKENS).logits
    torch.testing.assert_close(model(TOKENS), wanted, atol=1e-4, rtol=1e-4)
    cache = model.new_cache(torch.zeros(2, dtype=torch.int64))
    cached = torch.stack([model.next_logits(TOKENS[:, n : n + 1], cache) for n in range(20)], dim=1)
    torch.testing.assert_close(cached, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("is_tied", [True, False])
def test_rows_of_embeddings_beyond_the_tokens_are_left_out(tmp_path, monkeypatch, is_tied):
    monkeypatch.chdir(tmp_path)
    write_llama(tmp_path / "llama", spare_rows=20, num_attention_heads=4, tie_word_embeddings=is_tied)
    assert plan(**STUDY).bases  # no fault
    shape = shape_of(json.loads((tmp_path / "llama/config.json").read_text()), 20)
    model = LanguageModel(300, shape).eval()
    model.load_state_dict(read_weights(tmp_path / "llama", shape, 300))
    wanted = theirs("llama")(TOKENS).logits
    assert wanted.shape[-1] == 320
    torch.testing.assert_close(model(TOKENS), wanted[..., :300], atol=1e-4, rtol=1e-4)


def test_a_trunk_is_that_model_or_goes_on_from_it_and_so_does_a_branch(project):
    as_it_is, further = (load_model(trunks()[steps]) for steps in (0, 8))
    wanted = theirs("llama")(TOKENS).logits
    torch.testing.assert_close(as_it_is(TOKENS), wanted, atol=1e-4, rtol=1e-4)
    (tuned,) = (file for file in Path("experiments").glob("lora_*/animals/metrics.json"))
    measured = json.loads(tuned.read_text())["metrics"]
    losses = [measured[when]["animals"]["loss"] for when in ("base", "test")]
    as_base = json.loads(next(Path("experiments").glob("base_only_*/animals/metrics.json")).read_text())["metrics"]
    assert losses[0] == as_base["test"]["animals"]["loss"] > losses[1]
    told = json.loads(trunks()[8].with_name(f"{trunks()[8].stem}_metadata.json").read_text())
    assert told["metrics"]["base"]["animals"]["loss"] < losses[0] and told["steps"] == 8
    assert (
        not torch.allclose(further(TOKENS), wanted, atol=1e-2)
        and load(tuned.with_name("best_model.pt"))["base_weights"]
    )
    assert set(load(trunks()[0])["spec"]["start_from"]) == {"content"}  # where it lay is nobody's business


def test_trunk_and_low_rank_branch_have_the_same_logits_where_this_project_is_not(project, capsys):
    pytest.importorskip("peft")
    branch = next(Path("experiments").glob("lora_*/animals/best_model.pt"))
    name = json.loads(branch.with_name("metrics.json").read_text())["hash"]
    assert ran(project, capsys, "export_model", "--hash", name, "--output", "out/branch")[0] == 0
    trunk = json.loads(Path("out/branch/adapter_config.json").read_text())["base_model_name_or_path"]
    assert ran(project, capsys, "export_model", "--hash", trunks()[0].stem, "--output", trunk)[0] == 0
    folders = [str(Path(trunk).absolute()), str(Path("out/branch").absolute()), str(Path("logits.pt").absolute())]
    subprocess.run([CLEAN, "-I", "-c", ELSEWHERE, *folders], check=True, cwd="/")
    for theirs, ours in zip(torch.load("logits.pt"), (load_model(trunks()[0]), load_model(branch)), strict=True):
        torch.testing.assert_close(theirs, ours(TOKENS), atol=1e-4, rtol=1e-4)


def test_an_export_has_the_form_that_it_came_in_and_can_be_continued_again(project, capsys):
    for steps in (0, 8):
        name = trunks()[steps].stem
        assert ran(project, capsys, "export_model", "--hash", name, "--output", f"out/{steps}")[0] == 0
        torch.testing.assert_close(
            theirs(f"out/{steps}")(TOKENS).logits, load_model(trunks()[steps])(TOKENS), atol=1e-4, rtol=1e-4
        )
    came, went = (json.loads(Path(folder, "config.json").read_text()) for folder in ("llama", "out/0"))
    own = {"architectures", "bos_token_id", "eos_token_id", "pad_token_id"}
    assert {name: came[name] for name in set(went) - own} == {name: went[name] for name in set(went) - own}
    assert "began as a pretrained Llama" in Path("out/0/README.md").read_text()
    shape = shape_of(went, 20)
    again, before = read_weights(Path("out/0"), shape, 300), load(trunks()[0])["model"]
    assert set(again) == set(before) and all(torch.equal(again[name], before[name]) for name in before)
    planned = plan(
        **STUDY | {"base": STUDY["base"] | {"start_from": "out/8"}, "data": STUDY["data"] | {"tokenizer": "out/8"}}
    )
    assert next(iter(planned.bases.values())).spec.model == shape  # our own export is read back


def test_a_model_of_ours_comes_back_as_it_went(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    write_texts(tmp_path / "data/tiny")
    content = TINY["language_model"].content({"base": {"max_steps": 6, "eval_every": 6}})
    project.publish_here({name: value for name, value in content.items() if name != "finetune"})
    (trunk,) = trunks().values()
    assert ran(project, capsys, "export_model", "--hash", trunk.stem, "--output", "llama")[0] == 0
    back = {"start_from": "llama", "max_steps": 0, "context_length": 16, "lr": 0.5, "d_model": 16}
    project.publish_here(STUDY | {"base": back})
    first, second = (load(trunks()[steps]) for steps in (6, 0))
    assert all(torch.equal(second["model"][name], weight) for name, weight in first["model"].items())
    assert second["spec"]["model"] == first["spec"]["model"] and second["tokenizer"] == first["tokenizer"]
    assert "lr" in second["spec"] and second["spec"]["lr"] == 0.001  # what trains nothing names nothing


def planned_base(**base):
    (found,) = plan(**STUDY | {"base": STUDY["base"] | base}).bases.values()
    return found


def test_the_content_names_it_and_not_the_path(llama):
    before = planned_base()
    shutil.move(llama, llama.with_name("other"))
    moved = plan(
        **STUDY | {"base": STUDY["base"] | {"start_from": "other"}, "data": STUDY["data"] | {"tokenizer": "other"}}
    )
    assert set(moved.bases) == {before.hash}
    weights = llama.with_name("other") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = plan(
        **STUDY | {"base": STUDY["base"] | {"start_from": "other"}, "data": STUDY["data"] | {"tokenizer": "other"}}
    )
    assert set(changed.bases) != {before.hash}
    assert planned_of(changed).spec.model == before.spec.model


def planned_of(planned):
    (base,) = planned.bases.values()
    return base


def test_settings_of_a_training_that_takes_no_step_name_nothing(llama):
    assert planned_base().hash == planned_base(lr=0.5, seed=3, batch_size=9, optimizer="muon").hash
    assert planned_base().hash != planned_base(context_length=19).hash


def edit(file: Path, **changes) -> None:
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if value != "-"}))


def config(**changes):
    return lambda folder: edit(folder / "config.json", **changes)


def weights(change):
    def harm(folder):
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, {"format": "pt"})

    return harm


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def header(text: bytes, length: int | None = None):
    size = (len(text) if length is None else length).to_bytes(8, "little")
    return lambda folder: (folder / "model.safetensors").write_bytes(size + text)


def pipe(folder: Path) -> None:
    """What blocks whoever opens it, under a name that an index tells."""
    elsewhere(folder, "a.safetensors")
    os.mkfifo(folder / "a.safetensors")


def numbered(number: int):
    """One token has another number."""

    def harm(folder):
        content = json.loads((folder / "tokenizer.json").read_text())
        content["model"]["vocab"]["a"] = number
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return harm


def elsewhere(folder: Path, name: str = "../../model.safetensors") -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))


QUERY = "model.layers.1.self_attn.q_proj.weight"
HARM = [
    (config(model_type="mistral"), 'is of model_type "mistral"; only a plain llama can be continued'),
    (config(hidden_size="16"), 'has in config.json hidden_size: "16", which is no whole number of at least 1'),
    (config(num_key_value_heads=3), "has num_attention_heads: 4, which num_key_value_heads: 3 does not divide"),
    (config(head_dim=3), "has heads of an odd width"),
    (config(auto_map={"AutoModel": "x.Y"}), "has in config.json auto_map: "),
    (config(attention_bias=True), "has in config.json attention_bias: true, which a plain llama has not"),
    (config(rms_norm_eps=0), "has in config.json rms_norm_eps: 0, which is no number above 0"),
    (config(rope_parameters={"rope_type": "yarn"}), 'has rotary positions of rope_type "yarn"; only default and llama3'),
    (config(rope_parameters=LLAMA3 | {"factor": None}), "has rotary positions with factor: null, which cannot be"),
    (config(intermediate_size=25), "as F32 [24, 16], its config.json asks for BF16 or F16 or F32 [25, 16] (and 5 more)"),
    (config(vocab_size=299), "has 299 rows of embeddings and a tokenizer of 300 tokens; model.resize_token_embeddings(300)"),
    (config(max_position_embeddings=19), "knows 19 positions, fewer than context_length: 20"),
    (config(num_hidden_layers=2**31 - 1), "has in config.json num_hidden_layers: 2147483647; no more than 1000 are read"),
    (config(rms_norm_eps=10**400), "0000, which is no number above 0"),
    (config(tie_word_embeddings="yes"), 'has in config.json tie_word_embeddings: "yes", which is neither true nor false'),
    (weights(lambda w: {n: t for n, t in w.items() if n != QUERY}), f"lacks the weight {QUERY}"),
    (weights(lambda w: w | {"extra": torch.ones(1)}), 'has the weight "extra", which a plain llama has not'),
    (weights(lambda w: w | {QUERY: w[QUERY].double()}), f"has the weight {QUERY} as F64 [16, 16], its config.json asks for BF16"),
    (cut, "has weights that cannot be read (ValueError: model.safetensors: truncated, or longer than its header says)"),
    (pickled, "holds no model.safetensors; save_pretrained writes it (weights that are pickled, .bin or .pt, are not read)"),
    (elsewhere, "has weights that cannot be read (ValueError: its weight_map does not name files beside it)"),
    (header(b"[" * 100_000), "has weights that cannot be read (ValueError: it is nested too deeply)"),
    (header(b"{}", 2**28), "has weights that cannot be read (ValueError: model.safetensors: a header of 268435456 bytes)"),
    (pipe, "a.safetensors: is no regular file"),
    (numbered(300), "has a tokenizer.json whose tokens are not numbered from 0 to 299, one each"),
    (numbered(3), "has a tokenizer.json whose tokens are not numbered from 0 to 299, one each"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "has a tokenizer.json that cannot be read"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "holds no tokenizer.json; save the model's tokenizer there"),
    (lambda folder: (folder / "config.json").write_text("["), "holds no config.json that can be read"),
    (shutil.rmtree, "is no folder; give that of a Llama that save_pretrained wrote"),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "line"), HARM)
def test_what_cannot_be_continued_is_told_when_it_is_planned(llama, harm, line):
    plan(**STUDY)
    tokenizer = shutil.copy(llama / "tokenizer.json", "t.json")
    harm(llama)
    with pytest.raises(StudyError) as told:
        plan(**STUDY | {"data": STUDY["data"] | {"tokenizer": str(tokenizer)}})
    said = told.value.lines
    assert all(one.startswith('base.start_from: "llama" ') for one in said) and line in "".join(said) and len(said) < 3


LAST = {"mode": "last_layers_only", "max_steps": 60}
BAD = [
    ({"base": {"d_model": 32}}, "base.d_model: 32 is not that of llama, which has 16; remove it"),
    ({"base": {"start_from": None}}, "base.max_steps: 0 trains nothing; start from a pretrained model, or give a number of at least 1"),
    ({"data": {"tokenizer": None}}, "data.tokenizer: null is not that of base.start_from; give llama"),
    ({"finetune": {"mode": "full_fine_tuning"}}, "finetune.max_steps: null is needed"),
    ({"finetune": LAST | {"trained_layers": 3}}, "finetune.trained_layers: 3 is more than n_layers: 2"),
    ({"finetune": {"mode": "lora", "max_steps": 60, "rank": 9}}, "finetune.rank: 9 is more than the narrowest layer has: 8"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line"), BAD)
def test_settings_that_do_not_go_with_it_are_told(llama, change, line):
    merged = STUDY | {name: (STUDY.get(name) or {}) | values for name, values in change.items()}
    with pytest.raises(StudyError) as told:
        plan(**merged)
    (said,) = told.value.lines
    assert line in said


def test_a_folder_that_changes_after_it_was_planned_is_refused_by_the_job_and_by_the_check(llama):
    planned = prepared(plan(**STUDY))
    assert not check(planned, ()).faults
    weights(lambda w: w | {QUERY: w[QUERY] + 1})(llama)
    with pytest.raises(Refusal, match=r"base\.start_from: llama is gone or changed since it was planned; plan again"):
        train(job_of(planned_of(planned)))
    assert any("is gone or changed" in fault for fault in check(planned, ()).faults)


def test_weights_that_are_no_numbers_or_a_head_that_is_not_tied_are_refused(llama):
    shape = shape_of(json.loads((llama / "config.json").read_text()), 20)
    with pytest.raises(Refusal, match="has an output layer other than its embeddings, which it says are one"):
        read_weights(llama, shape.model_copy(update={"is_tied": True}), 300)
    weights(lambda w: w | {QUERY: w[QUERY] * float("nan")})(llama)
    with pytest.raises(Refusal, match=f"{QUERY} holds what is no number"):
        read_weights(llama, shape, 300)


def test_nothing_of_the_folder_is_unpickled(llama, monkeypatch):
    (llama / "pytorch_model.bin").write_bytes(b"not looked at")
    monkeypatch.setattr(torch, "load", None)
    shape = shape_of(json.loads((llama / "config.json").read_text()), 20)
    assert llama_name("head") == "lm_head.weight" and "head" in read_weights(llama, shape, 300)
