"""What the page shows of distillation and of language models: the numbers of figures and tables, and which of them are absent."""

import pytest
from conftest import plan
from made_results import drawn, material_of, methods_of, parts_of, publish

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
    for words in ("terms of cl and pato (cellxgene-ontology-guide-", "layers 0, 2 and 5", "layers 0 and 5", "peak learning rate 0.00025",
                  "83, 3 and 14 %", "for 1 epoch in", "for 2 epochs in", "peak learning rate 0.0001", "temperature 0.05"):  # fmt: skip
        assert words in told, (words, told)
