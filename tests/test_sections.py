"""What the page shows of distillation and of language models: the numbers of figures and tables, and which of them are absent."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import plan, prepared
from made_results import drawn, material_of, methods_of, parts_of, publish
from tiny import TINY, write_texts

from rootstock.results.svg import SVG

SCORES = ("recall_at_1", "recall_at_10", "mrr", "ndcg_at_10")
TEACHER = dict.fromkeys(SCORES, 0.5)
PHASES = [{"mode": "base_only"}, {"mode": "phase2", "max_epochs": 2, "lr": 0.0001}]
STUDENTS = {"layers": [[0, 2, 5], [0, 5]], "max_epochs": 3}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def students(base=STUDENTS, finetune=PHASES, **data):
    return plan(task="distillation", data=data, base=base, finetune=finetune)


def recalls(experiment, by_layers=lambda n: 0.1 * n, gain=0.125, dimensions=()) -> dict:
    """R@1 is a tenth a layer after phase 1, and an eighth more after phase 2."""
    n_layers = experiment.settings["base_layers"].count(" ") + 1
    first = dict.fromkeys(SCORES, by_layers(n_layers))
    trained = experiment.spec.trains
    scores = {name: value + gain * trained for name, value in first.items()}
    found = {
        "test": scores | {"teacher_correlation": 0.75},
        "teacher": TEACHER,
        "layers": n_layers,
        "parameters": 10**6 * n_layers,
    }
    found["dimensions"] = {str(d): {name: value * d / 384 for name, value in scores.items()} for d in dimensions}
    found |= {"dimension": 384, "n_queries": 7, "n_passages": 9, "n_train": 5, "effective_batch": 5}
    return found | ({"base_test": first} if trained else {})


def speeds(planned) -> list[dict]:
    architectures = dict.fromkeys(e.settings["architecture"] for e in planned.experiments.values())
    return [{"student": name, "threads": 1, "teacher_per_second": 10.0, "student_per_second": 10.0 * k}
            for k, name in enumerate(architectures, 2)]  # fmt: skip


def test_students_stand_beside_their_teacher():
    planned = students()
    publish(planned, recalls, lambda training: [0.5, 0.25, 0.375][: training.spec.max_epochs])
    parts = parts_of(material_of(planned, speeds(planned)))
    assert list(parts) == ["students", "recall_speed", "losses", "scores"]
    both = parts["students"].data.set_index("student")
    name = "distilled-minilm-384d, {} layers"
    assert both.loc[name.format(3), ["phase 1", "phase 2"]].tolist() == pytest.approx([30, 42.5])
    assert both.loc[name.format(2), ["phase 1", "phase 2"]].tolist() == pytest.approx([20, 32.5])
    assert both.loc["teacher all-MiniLM-L6-v2", "teacher"] == 50
    assert "3 layers: phase 1 30.0 %, phase 2 42.5 %" in parts["students"].alt
    fast = parts["recall_speed"].data
    assert fast["sentences a second"].tolist() == [20, 30, 20, 30, 10]
    assert fast["R@1, %"].tolist() == pytest.approx([30, 20, 42.5, 32.5, 50])
    table = parts["scores"].frame
    assert table["R@1, % of the teacher's"].tolist()[1:] == pytest.approx([60, 85, 40, 65])
    assert table["sentences a second"].tolist() == [10, 20, 20, 30, 30]


def test_curves_have_the_kept_epoch_of_each_phase():
    planned = students()
    publish(planned, recalls, lambda training: [0.5, 0.25, 0.375][: training.spec.max_epochs])
    curves = parts_of(material_of(planned))["losses"].data
    assert curves.groupby("panel").size().to_dict() == {"phase 1": 6, "phase 2": 4}
    assert curves[curves["is_kept"]]["epoch"].tolist() == [2, 2, 2, 2]
    assert curves["val_loss"].tolist()[:3] == [0.5, 0.25, 0.375]


def test_recall_by_the_first_dimensions():
    planned = students({"layers": [0, 2, 5], "use_projection": False, "mrl_dimensions": [96, 192]})
    publish(planned, lambda experiment: recalls(experiment, lambda _: 0.25, dimensions=(96, 192)))
    data = parts_of(material_of(planned))["recall_dimensions"].data
    assert data["dimensions"].tolist() == [96, 192, 384] * 2
    assert data["R@1, %"].tolist() == pytest.approx([6.25, 12.5, 25, 9.375, 18.75, 37.5])


def test_a_figure_without_its_data_is_absent():
    planned = students({"layers": [0, 5]}, {"mode": "base_only"})
    publish(planned, recalls)
    assert list(parts_of(material_of(planned))) == ["scores"]


def test_students_of_phase_1_alone():
    planned = students(finetune={"mode": "base_only"})
    publish(planned, recalls)
    data = parts_of(material_of(planned))["students"].data
    assert list(data) == ["student", "phase 1", "teacher"] and data["phase 1"].tolist()[:2] == pytest.approx([30, 20])


def test_seeds_are_averaged_within_a_student():
    planned = students({"layers": [0, 5], "seed": [0, 1]}, PHASES)
    publish(planned, lambda experiment: recalls(experiment, lambda n: 0.25 + 0.25 * experiment.settings["base_seed"]))
    data = parts_of(material_of(planned))["students"].data
    assert data["phase 1"].tolist()[0] == pytest.approx(37.5) and len(data) == 2


def test_the_same_results_give_the_same_bytes():
    planned = students()
    publish(planned, recalls, lambda training: [0.5, 0.25, 0.375][: training.spec.max_epochs])
    first = drawn(material_of(planned))
    assert set(first) == {"students", "losses"} and drawn(material_of(planned)) == first


def test_methods_of_distillation_are_its_specs():
    told = methods_of(students({"layers": [[0, 2, 5], [0, 5]], "lr": 0.00025}, PHASES, ontologies=["pato", "cl"]))
    for words in ("terms of cl and pato (cellxgene-ontology-guide-", "layers 0, 2 and 5", "layers 0 and 5",
                  "83, 3 and 14 %", "temperature 0.05", "texts cut at 128 tokens",
                  "peak learning rate 0.00025", "for 1 epoch in", "for 2 epochs in"):  # fmt: skip
        assert words in told, (words, told)


ODD = '<b>&"$x^2$ é'  # a domain is a file of its name


def texts(base=None, finetune=None, **study):
    """The plan of the tiny study on its two domains and an odd one."""
    write_texts(Path("data/tiny"))
    Path("data/tiny", f"{ODD}.txt").write_text("\n\n".join(f"thing number {k}" for k in range(40)))
    sections = {"base": {"max_steps": 24, "schedule": "constant"} | (base or {}), "domains": ["animals", ODD]}
    return plan(**TINY["language_model"].content(sections, study) | {"finetune": finetune or BRANCHES})


BRANCHES = [
    {"mode": "cool_down", "max_steps": 12},
    {"mode": "full_fine_tuning", "max_steps": [6, 12], "schedule": "linear"},
]
TEXTS = ("animals", "plants", ODD, "general")


def nats(experiment) -> dict:
    """A trunk of 24 steps has 4 nats a token, of 48 steps 3; a branch gains half a nat on its own domain and loses a quarter on
    others, a cool-down gains an eighth."""
    settings = experiment.settings
    before = {24: 4.0, 48: 3.0}[settings["base_max_steps"]]
    change = dict.fromkeys(TEXTS, {"cool_down": -0.125, "base_only": 0.0}.get(settings["mode"], 0.25))
    if settings["mode"] == "full_fine_tuning":
        change[settings["domain"]] = -0.5 if settings["max_steps"] == 12 else -0.375
    found = {"base": dict.fromkeys(TEXTS, 0.0), "test": change}
    measured = {kind: {t: {"loss": before + x, "tokens": 100} for t, x in of.items()} for kind, of in found.items()}
    return measured | {"n_train": 1000, "parameters": 10}


def test_branches_stand_beside_trunk_and_trunk_continued():
    planned = texts()
    publish(planned, nats)
    parts = parts_of(material_of(planned))
    assert list(parts) == ["domains", "domain_matrix", "branch_budgets", "branches", "trunks"]
    assert parts["domains"].data.to_numpy().tolist() == [["animals", 4.0, 3.875, 3.5], [ODD, 4.0, 3.875, 3.5]]
    matrix = parts["domain_matrix"].data.set_index("learned from")
    assert matrix.loc["trunk"].tolist() == [4, 4, 4, 4]
    assert matrix.loc["animals", ["animals", "plants", ODD, "general"]].tolist() == [3.5, 4.25, 4.25, 4.25]
    budgets = parts["branch_budgets"].data
    assert budgets["million tokens of the branch"].unique().tolist() == pytest.approx(
        [6 * 4 * 16 / 1e6, 12 * 4 * 16 / 1e6]
    )
    assert budgets["loss"].tolist() == [3.625, 3.625, 3.5, 3.5]


def test_trunks_of_several_budgets_are_a_line_and_one_chain_a_curve():
    planned = texts({"max_steps": [24, 48]}, BRANCHES[0])
    publish(planned, nats, lambda training: [5.0 - k for k in range(training.spec.course().epochs)])
    parts = parts_of(material_of(planned))
    assert list(parts) == ["budgets", "tokens", "trunks"]
    budgets = parts["budgets"].data.groupby("line")["loss"].apply(list).to_dict()
    assert budgets == {"trunk": [4, 3], "trunk, cooled down for 12 steps": [3.875, 2.875]}
    seen = (
        parts["tokens"].data.groupby("training", sort=False)["million tokens seen, with those of the trunk"].apply(list)
    )
    window = 4 * 16 / 1e6
    steps = {"trunk, max_steps 48": range(6, 49, 6)}
    steps |= {f"trunk, max_steps {trunk}, cooled down for 12 steps": range(trunk, trunk + 13, 6) for trunk in (24, 48)}
    assert {name: [round(x / window) for x in xs] for name, xs in seen.items()} == {
        name: list(xs) for name, xs in steps.items()
    }
    kept = parts["tokens"].data[parts["tokens"].data["is_kept"]]
    assert len(kept) == 3


def test_bits_a_byte_where_the_bytes_of_the_text_are_known():
    planned = prepared(texts())
    publish(planned, nats)
    parts = parts_of(material_of(planned))
    (manifest,) = Path("prepared").glob("*/manifest.json")
    sizes = {name: sum(shard["bytes"] for shard in splits["test"])
             for name, splits in json.loads(manifest.read_text())["domains"].items()}  # fmt: skip
    factor = 100 / math.log(2)
    branch = parts["branches"].frame
    assert branch["branch, bits"].tolist()[0] == pytest.approx(3.625 * factor / sizes["animals"])
    trunks = parts["trunks"].frame.set_index(["model", "text"])["bits a byte"]
    assert trunks["trunk", ODD] == pytest.approx(4 * factor / sizes[ODD])
    assert trunks["trunk", "general"] == pytest.approx(4 * factor / sum(sizes.values()))


def test_one_domain_and_a_measured_trunk_have_no_matrix_and_no_branches():
    planned = texts(finetune={"mode": "full_fine_tuning", "max_steps": 12}, domains=["animals"])
    publish(planned, nats)
    assert list(parts_of(material_of(planned))) == ["domains", "branches", "trunks"]


def test_a_study_that_only_measures_its_trunk_has_a_table():
    planned = texts(finetune={"mode": "base_only"})
    publish(planned, nats)
    assert list(parts_of(material_of(planned))) == ["trunks"]


def test_a_users_names_are_text():
    planned = texts()
    publish(planned, nats, lambda training: [4.0, 3.0, 3.5])
    material = material_of(planned)
    for name, svg in drawn(material).items():
        written = [element.text for element in ElementTree.fromstring(svg).iter(f"{{{SVG}}}text")]
        assert ODD in written or name == "branch_budgets", (name, written)
        assert "<b>" not in svg


def test_methods_of_language_models_are_their_specs():
    told = methods_of(texts({"max_steps": [24, 48]}))
    for words in ("3 domains: ", "80, 10 and 10 %", "vocabulary of 300", "1 layer of width 16, 2 heads", 
                  "for 24 or 48 steps of 4 windows", "for 6 or 12 steps",
                  "with 100 %", "with AdamW (betas of AdamW 0.9 and 0.95"):  # fmt: skip
        assert words in told, (words, told)
