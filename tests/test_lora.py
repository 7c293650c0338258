"""Low-rank branches of a language model: their files hold only what changed, and are the whole model to all who read them."""

import json
import shutil
from pathlib import Path

import pandas
import pytest
import torch
from conftest import Project, plan, ran
from tiny import TINY, write_texts

from rootstock import load_model
from rootstock.engine.files import load, to_bytes
from rootstock.engine.low_rank import NAME
from rootstock.results.summary import summary_of
from rootstock.store.objects import stored
from rootstock.study.problems import Refusal, StudyError
from rootstock.tasks.language_model import report
from rootstock.tasks.language_model.generate import generate_text, load_model_from_checkpoint

LORA = {"mode": "lora", "rank": 2, "targets": ["down_proj", "q_proj"], "lr": 0.05, "optimizer": "adamw"}
STUDY = TINY["language_model"].content({"finetune": LORA, "base": {"max_steps": 8}})
STORE = ".rootstock/store"
TOKENS = torch.arange(32).view(2, 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Project:
    """A project with a trunk and a low-rank branch of it, published."""
    project = Project(tmp_path_factory.mktemp("project"))
    write_texts(project / "data/tiny")
    project.publish_here(STUDY)
    return project


@pytest.fixture
def project(trained, tmp_path, monkeypatch) -> Project:
    """A copy of it to be changed at will, as the working folder."""
    shutil.copytree(trained.folder, tmp_path / "copy", symlinks=True)
    copy = Project.__new__(Project)
    copy.folder = tmp_path / "copy"
    monkeypatch.chdir(copy.folder)
    return copy


def branch_of(project: Project) -> Path:
    (file,) = project.folder.glob("experiments/*/animals/best_model.pt")
    return file.relative_to(project.folder)


def base_of(project: Project) -> str:
    return load(branch_of(project))["spec"]["base"]


def by_hand(project: Project) -> dict[str, torch.Tensor]:
    """The weights of the branch by the formula: those of the trunk, and alpha / rank · up · down."""
    weights = dict(load(Path(f"base_models/{base_of(project)}.pt"))["model"])
    changed = load(branch_of(project))["model"]
    for layer in ("attention.query", "feed_forward.down"):
        up, down = (changed[f"blocks.0.{layer}.{NAME}.{part}"] for part in ("up", "down"))
        weights[f"blocks.0.{layer}.weight"] = weights[f"blocks.0.{layer}.weight"] + 4.0 / 2 * up @ down
    return weights


def test_the_file_holds_only_what_changed_and_is_the_whole_model_to_its_readers(project, capsys):
    content = load(branch_of(project))
    parts = {
        f"blocks.0.{layer}.{NAME}.{part}"
        for layer in ("attention.query", "feed_forward.down")
        for part in ("up", "down", "scale")
    }
    assert set(content["model"]) == parts and content["spec"]["alpha"] == 4.0
    model = load_model(branch_of(project).parent)
    for name, weight in by_hand(project).items():
        torch.testing.assert_close(model.state_dict()[name], weight, msg=name)
    metrics = json.loads(branch_of(project).with_name("metrics.json").read_text())["metrics"]
    assert metrics["base"]["animals"]["loss"] > metrics["test"]["animals"]["loss"]  # it has learned
    same, config = load_model_from_checkpoint(branch_of(project), "cpu")
    assert torch.equal(same(TOKENS), model(TOKENS)) and str(config).startswith("lora animals")
    assert generate_text(same, config.tokenizer, "cat", max_length=4, seed=0)
    status, out, _ = ran(project, capsys, "check_checkpoint", content["hash"])
    assert status == 0 and f"holds only what changed of its base model {base_of(project)}" in out


def test_the_base_is_found_in_the_store_or_published_and_it_is_the_one_learned_on(project):
    whole = load_model(branch_of(project))(TOKENS)
    name = base_of(project)
    published, kept = Path(f"base_models/{name}.pt"), Path(STORE, name)
    shutil.move(kept, "apart")
    assert torch.equal(load_model(branch_of(project))(TOKENS), whole)
    content = published.read_bytes()
    published.unlink()
    published.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(Refusal, match="damaged, its sha256"):
        load_model(branch_of(project))
    published.unlink()
    with pytest.raises(
        Refusal, match=f"only what changed of its base model {name}, which is neither in {STORE} nor in"
    ):
        load_model(branch_of(project))
    shutil.move("apart", kept)
    assert torch.equal(load_model(branch_of(project))(TOKENS), whole)


def test_a_base_that_was_trained_anew_to_other_weights_is_refused(project):
    name = base_of(project)
    content, mine = (
        load(Path(f"{STORE}/{name}/model.pt")),
        json.loads(Path(f"{STORE}/{name}/metadata.json").read_text()),
    )
    shutil.rmtree(f"{STORE}/{name}")
    content["model"]["norm.weight"][0] += 1e-6  # on another machine
    stored(STORE, name).commit(to_bytes(content), mine, mine["spec_json"])
    with pytest.raises(Refusal, match=rf"learned on other weights than its base model {name} has now; base_models.py"):
        load_model(branch_of(project))


def test_an_export_is_what_peft_loads_beside_its_trunk_and_merged_what_transformers_loads(project, capsys):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours, name = load_model(branch_of(project)), load(branch_of(project))["hash"]
    status, out, _ = ran(project, capsys, "export_model", "--hash", name, "--output", "out/branch")
    trunk = f"out/trunk_{base_of(project)[:8]}"
    assert status == 0 and f"--output {trunk} writes that" in out
    assert ran(project, capsys, "export_model", "--hash", base_of(project), "--output", trunk)[0] == 0
    for theirs in (
        peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trunk), "out/branch"),
        AutoModelForCausalLM.from_pretrained("out/branch"),  # its configuration names the trunk
    ):
        torch.testing.assert_close(theirs.eval()(TOKENS).logits, ours(TOKENS), atol=1e-4, rtol=1e-4)
    size = {
        file: Path(f"out/{file}").stat().st_size
        for file in ("branch/adapter_model.safetensors", f"{trunk[4:]}/model.safetensors")
    }
    assert len(set(size.values())) == 2 and min(size, key=size.__getitem__).startswith("branch")
    assert AutoTokenizer.from_pretrained("out/branch")("cat")["input_ids"]
    assert ran(project, capsys, "export_model", "--hash", name, "--merge", "--output", "out/merged")[0] == 0
    merged = AutoModelForCausalLM.from_pretrained("out/merged")
    torch.testing.assert_close(merged(TOKENS).logits, ours(TOKENS), atol=1e-4, rtol=1e-4)
    shutil.rmtree(f"{STORE}/{base_of(project)}")
    Path(f"base_models/{base_of(project)}.pt").unlink()
    status, _, err = ran(project, capsys, "export_model", "--hash", name, "--output", "out/again")
    assert status == 1 and "holds only what changed of its base model" in err


def test_a_resumed_branch_ends_in_the_same_bits(project, monkeypatch):
    before = branch_of(project).read_bytes()
    (kept,) = (file.parent for file in Path(STORE).glob("*/model.pt") if "mode" in load(file)["spec"])
    (tuned,) = plan(**STUDY).experiments.values()
    flags = (
        "--spec",
        tuned.json,
        "--data_path",
        tuned.data,
        "--base",
        f"base_models/{tuned.base}.pt",
        "--output",
        "experiments/x/y",
    )
    project.here("train_finetune", *flags, "--store", "again", "--keep_checkpoints", "7")
    assert Path(f"again/{kept.name}/model.pt").read_bytes() == before
    checkpoint = Path(f"again/{kept.name}/checkpoint_step_7.pt")
    middle, config = load_model_from_checkpoint(checkpoint, "cpu", "again")  # it has all weights
    assert config.step == 7 and not torch.equal(middle(TOKENS), load_model(branch_of(project))(TOKENS))
    project.here("train_finetune", *flags, "--store", "third", "--start_from", str(checkpoint))
    assert Path(f"third/{kept.name}/model.pt").read_bytes() == before


def test_ranks_have_rows_of_their_own(project):
    summary = summary_of(plan(**STUDY), report.result_columns)
    both = pandas.concat([summary, summary.assign(rank=4)])
    assert report.branch_table(both)["rank"].tolist() == [2, 4] and "down_proj" not in report.render(both, [])
    assert "q_proj down_proj" in report.render(pandas.concat([summary, summary.assign(targets="q_proj")]), [])


BAD = [
    (
        {"mode": "full_fine_tuning", "rank": 2, "targets": None},
        "finetune.rank: 2 needs mode lora, not full_fine_tuning",
    ),
    ({"rank": 17}, "finetune.rank: 17 is more than the narrowest layer has: 16"),
    ({"alpha": 0}, "finetune.alpha: 0 needs a number above 0"),
    ({"targets": ["q_prj"]}, "finetune.targets"),
    ({"targets": []}, "finetune.targets: [] needs at least 1 values"),
]


@pytest.mark.parametrize(("change", "line"), BAD)
def test_bad_settings_are_told(tmp_path, monkeypatch, change, line):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")
    with pytest.raises(StudyError) as told:
        plan(**TINY["language_model"].content({"finetune": LORA | change}))
    assert line in str(told.value)


def test_what_is_not_given_has_its_default_and_an_order_of_targets_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")

    def spec_of(**finetune):
        (one,) = plan(
            **TINY["language_model"].content({"finetune": {"mode": "lora"} | finetune}), export=True
        ).experiments.values()
        return one

    plain = spec_of()
    assert (plain.spec.rank, plain.spec.alpha, len(plain.spec.targets)) == (8, 16.0, 7)
    assert spec_of(rank=8, alpha=16).hash == plain.hash != spec_of(alpha=8).hash
    assert spec_of(targets=["v_proj", "q_proj", "v_proj"]).hash == spec_of(targets=["q_proj", "v_proj"]).hash
    assert plain.prefix.startswith("lora_r8_pct0.5_at22_")


def test_a_study_exports_the_trunk_with_an_adapter_and_not_with_a_merged_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "data/tiny")
    for merged, names in ((False, ["lora_animals", "trunk"]), (True, ["lora_merged_animals"])):
        planned = plan(**STUDY, export=True, export_merged=merged)
        assert sorted(Path(folder).name.rpartition("_")[0] for folder in planned.exports) == names


def test_only_a_low_rank_branch_has_a_rank_in_its_spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TINY["language_model"].write(tmp_path / "data/tiny")
    (tuned,) = plan(**TINY["language_model"].content()).experiments.values()
    with pytest.raises(ValueError, match="rank"):
        type(tuned.spec).model_validate(tuned.spec.model_dump() | {"rank": 2})
