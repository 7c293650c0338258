"""The same training has the same name, however it is written down; and the rules for it change no weight."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PEOPLE, job_of, plan, prepared, write_people
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY

from rootstock.engine.files import load
from rootstock.job.train import train
from rootstock.study.identity import digest
from rootstock.tasks.registry import TASKS

AUGMENTED = {"use_augmentation": True}
STILL = {"jitter_std": 0, "magnitude_range": [1, 1], "time_warp": 0, "rotation_std": 0}
# Of a task: settings of base and fine-tune that are two spellings of one training.
ACTIVITY = {
    "a positive class that weighs as all others": ({"pos_weight": 1}, {}),
    "a patience that ends with the last epoch": ({"early_stopping_patience": 3}, {}),
    "a patience beyond the last epoch": ({"early_stopping_patience": 50}, {"early_stopping_patience": 3}),
    "a patience where the last epoch is kept": (
        {"early_stopping_patience": 1, "early_stopping_metric": "last"}, {"early_stopping_metric": "last"},
    ),
    "augmentation that changes nothing": (AUGMENTED | STILL, {}),
    "augmentation that never happens": (AUGMENTED | {"aug_prob": 0, "jitter_std": 0.3}, {}),
    "mixup of windows that nothing else changes": (
        AUGMENTED | {"aug_prob": 0, "mixup_alpha": 0.3}, AUGMENTED | STILL | {"mixup_alpha": 0.3},
    ),
}  # fmt: skip
LANGUAGE = {
    "an evaluation after the end": ({"eval_every": 50}, {"eval_every": 12}),
    "a patience that ends with the last evaluation": ({"early_stopping_patience": 2}, {}),
}
CONTRAST = {
    "what only InfoNCE looks at, without it": (
        {"infonce_weight": 0, "mse_weight": 1, "temperature": 0.2, "num_negatives": 2, "in_batch_negatives": False},
        {"infonce_weight": 0, "mse_weight": 1},
    ),
}
STUDENT = {"the student's own dropout": ({"dropout": 0.1}, {"dropout": None})}
PAIRS = [
    *(("activity", "base", name, *pair) for name, pair in ACTIVITY.items()),
    *(("activity", "finetune", name, *pair) for name, pair in ACTIVITY.items() if "patience" not in name),
    *(("language_model", "base", name, *pair) for name, pair in LANGUAGE.items()),
    *(("distillation", "base", name, *pair) for name, pair in STUDENT.items()),
    *(("distillation", "finetune", name, *pair) for name, pair in CONTRAST.items()),
]
# Other words for the same settings, told from each other by nothing that trains: section, setting, and its spellings.
WORDS = {
    "activity": [
        ("base", "lr", [0.01, "0.01", "1e-2", 0.010000000000000002]),
        ("base", "label_smoothing", [0.3, 0.1 + 0.2, "0.3"]),
        ("base", "max_epochs", [3, "3", 3.0]),
        ("base", "gradient_clip", [1, 1.0, "1"]),
        ("base", "magnitude_range", [[1, 2], [1.0, "2"]]),
        ("base", "use_augmentation", [True, "true", 1]),
        ("base", "model", ["test", "rootstock.tasks.activity.models:ConvBlocks", "same", "class"]),
        ("base", "participants", ["others", list(PEOPLE[1:]), list(PEOPLE[:0:-1])]),
        ("base", "n_base_participants", ["all", len(PEOPLE) - 1]),
        ("data", "path", ["data/tiny", "./data/tiny", "data/../data/tiny/", "copied"]),
    ],
    "distillation": [
        ("base", "layers", [None, [0, 1, 2]]),
        ("base", "student", ["data/tiny/teacher", "./data/tiny/teacher", "data/tiny/teacher/", "copied/teacher"]),
        ("base", "student_dim", [None, 16]),
        ("base", "projection_hidden_dim", [None, 64]),
        ("data", "teacher", ["data/tiny/teacher", "./data/tiny/teacher", "{here}/data/tiny/teacher", "copied/teacher"]),
        ("data", "teacher_dim", [None, 16]),
        ("data", "path", ["data/tiny/pairs.jsonl", "{here}/data/tiny/pairs.jsonl", "copied/pairs.jsonl"]),
        ("finetune", "num_negatives", [2, "2", 2.0]),
    ],
    "language_model": [
        ("base", "max_steps", [12, "12", 12.0]),
        ("base", "lr", [0.3, 0.1 + 0.2]),
        ("data", "path", ["data/tiny", "{here}/data/tiny", "copied"]),
    ],
}  # fmt: skip
SPELLED = [
    (task, section, setting, others)
    for task, table in WORDS.items()
    for section, setting, others in table
]  # fmt: skip
# Of each task: settings that look like another spelling and are none.
APART = {
    "activity": [
        ({}, {"pos_weight": 1.0001}), ({}, {"pos_weight": 2}), ({}, {"early_stopping_patience": 2}), ({}, {"seed": 1}),
        ({}, {"mixup_alpha": 0.1, **AUGMENTED}), ({}, AUGMENTED), (AUGMENTED, AUGMENTED | {"aug_prob": 0.4}),
        (AUGMENTED | STILL | {"mixup_alpha": 0.1}, AUGMENTED | STILL), ({}, {"weight_decay": 0}), ({}, {"gradient_clip": 1e9}),
        ({}, {"lr": 0.0100000000001}), ({}, {"schedule": "cosine"}), ({}, {"early_stopping_metric": "f1"}),
        ({"early_stopping_metric": "last"}, {"early_stopping_metric": "loss"}),
    ],
    "language_model": [
        ({"schedule": "wsd", "decay_pct": 1.0}, {"schedule": "linear"}), ({"eval_every": 11}, {"eval_every": 12}),
    ],
    "distillation": [
        ({"layers": [0, 2]}, {"layers": [2, 0]}), ({"dropout": 0.0}, {"dropout": None}), ({"max_samples_per_dataset": 1}, {}),
    ],
}  # fmt: skip
PLAIN = {
    "distillation": dict.fromkeys(("layers", "dropout", "projection_hidden_dim")),
    "language_model": {"eval_every": 12},
}
# Neutral settings of a base training; any of them together are as none.
NEUTRAL = {
    "activity": {"pos_weight": 1, "early_stopping_patience": 3, "mixup_alpha": 0.0, "label_smoothing": 0, "aug_prob": 0.7,
                 "jitter_std": 1, "participants": list(PEOPLE[1:]), "n_base_participants": len(PEOPLE) - 1, "dropout": 0.0,
                 "model": "rootstock.tasks.activity.models:ConvBlocks", "precision": "float32", "lr": "0.010000000000000002"},
    "distillation": {"layers": [0, 1, 2], "dropout": 0.1, "student": "./data/tiny/teacher", "student_dim": 16,
                     "projection_hidden_dim": 64, "gradient_clip": 1, "seed": 0, "cosine_weight": "1"},
    "language_model": {"eval_every": 99, "early_stopping_patience": 2, "precision": "float32", "seed": "0"},
}  # fmt: skip


def study_of(task: str, section: str, own: dict) -> dict:
    short = {
        "activity": {"max_epochs": 3, "batch_size": 8},
        "language_model": {"max_steps": 12, "schedule": "constant"},
    }
    base = short.get(task, {"max_epochs": 1, "dropout": 0.0})
    plain = TINY[task].content({"base": base})
    if task == "activity":
        plain["base"] = base | {"lr": 0.01}
        plain["finetune"] = {"mode": "target_only_fine_tuning", "max_epochs": 3}
    return plain | {section: plain[section] | own}


@pytest.fixture
def data(request, tmp_path, monkeypatch):
    """The task of a test, its data written in the working folder."""
    monkeypatch.chdir(tmp_path)
    task = request.node.callspec.params["task"]
    binary = {"binary": True} if task == "activity" else {}
    TINY[task].write(tmp_path / "data/tiny", **binary)


def only(task: str, section: str, own: dict):
    """The one base and the one fine-tune that these settings mean, their data prepared."""
    planned = prepared(plan(**study_of(task, section, own)))
    (base,), (finetune,) = planned.bases.values(), planned.experiments.values()
    return base, finetune


@pytest.mark.parametrize(("task", "section", "name", "one", "other"), PAIRS)
def test_two_spellings_are_one_training(data, task, section, name, one, other):
    found = [only(task, section, own) for own in (one, other)]
    which = 0 if section == "base" else 1
    assert found[0][which].hash == found[1][which].hash


@pytest.mark.parametrize(("task", "section", "name", "one", "other"), PAIRS)
def test_two_spellings_give_the_same_weights(data, task, section, name, one, other, monkeypatch):
    """Trained as they are written, without the rule that makes them one."""
    monkeypatch.setattr(type(TASKS.find(task)), "normalised", lambda self, spec: spec)
    states = []
    for number, own in enumerate((one, other)):
        base, finetune = only(task, section, own)
        assert (number, base.hash, finetune.hash) not in states
        kept = train(job_of(base, f"store{number}"))
        if section == "finetune":
            kept.publish_base(*(kept.folder / part for part in ("b.pt", "b_metadata.json")))
            kept = train(replace(job_of(finetune, f"store{number}"), start_model=str(kept.folder / "b.pt")))
        states.append(load(kept.model)["model"])
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-6) for key in states[1])


def base_hash(task: str, section: str, own: dict) -> str:
    (name,) = plan(**study_of(task, section, own)).bases
    return name


def defaults(task: str) -> list[tuple[str, str, object]]:
    """Settings of a task that have a default other than null, which its study here does not give."""
    found = []
    for section in ("data", "base", "finetune"):
        given = study_of(task, section, {})[section]
        fields = getattr(TASKS.find(task), f"{section}_section").model_fields
        found += [
            (section, name, f.default) for name, f in fields.items() if f.default is not None and name not in given
        ]
    return found


DEFAULTS = [(task, *one) for task in TASKS.names for one in defaults(task)]


@pytest.mark.parametrize(("task", "section", "setting", "default"), DEFAULTS)
def test_a_setting_that_is_given_as_its_default_is_as_one_left_out(data, task, section, setting, default):
    found = [plan(**study_of(task, section, own)) for own in ({}, {setting: default})]
    assert found[0].reaches == found[1].reaches


@pytest.mark.parametrize(("task", "section", "setting", "spellings"), SPELLED)
def test_other_words_for_a_setting_are_the_same_training(data, task, section, setting, spellings):
    shutil.copytree("data/tiny", "copied", dirs_exist_ok=True)
    names = []
    for one in spellings:
        study = study_of(task, section, {setting: one.format(here=Path.cwd()) if isinstance(one, str) else one})
        if setting == "model":
            ours = {"class": "rootstock.tasks.activity.models:ConvBlocks"}
            study["models"] = {"same": {"preset": "test", "dropout": 0}, "class": ours | {"num_blocks": 4}}
        names.append(plan(**study).reaches)
    assert len(set(map(frozenset, names))) == 1


@pytest.mark.parametrize(("task", "one", "other"), [(task, *pair) for task, pairs in APART.items() for pair in pairs])
def test_what_only_looks_like_another_spelling_is_another_training(data, task, one, other):
    assert base_hash(task, "base", one) != base_hash(task, "base", other)


def test_the_table_of_spellings_is_as_long_as_the_one_that_was_tried():
    assert len(PAIRS) + len(DEFAULTS) + sum(len(others) - 1 for *_, others in SPELLED) >= 81
    assert sum(map(len, APART.values())) >= 15


@pytest.mark.parametrize("task", TASKS.names)
def test_neutral_settings_together_are_as_none(data, task):
    own = {
        "distillation": dict.fromkeys(("layers", "dropout", "projection_hidden_dim")),
        "language_model": {"eval_every": 12},
    }.get(task, {})
    plain = base_hash(task, "base", own)

    @settings(max_examples=40, deadline=None)
    @given(st.sets(st.sampled_from(sorted(NEUTRAL[task]))))
    def any_of_them(names):
        assert base_hash(task, "base", own | {name: NEUTRAL[task][name] for name in names}) == plain

    any_of_them()


def test_without_the_rules_the_spellings_had_two_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny", binary=True)
    monkeypatch.setattr(type(TASKS.find("activity")), "normalised", lambda self, spec: spec)
    for one, other in ACTIVITY.values():
        hashes = {next(iter(plan(**study_of("activity", "base", own)).bases)) for own in (one, other)}
        assert len(hashes) == 2


def test_wsd_over_all_steps_is_not_linear():
    """Looked like a spelling of it, and is none: see `tasks/language_model/normal.py`."""
    from rootstock.engine.schedule import make_schedule

    rates = []
    for name in ("wsd", "linear"):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make_schedule(name, optimizer, 1.0, 10, 2, 1.0)
        rates.append([])
        for _ in range(10):
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    assert rates[0] != pytest.approx(rates[1])


def test_budgets_go_on_from_each_other_though_the_short_ones_have_no_patience_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny")
    study = {"data": {"path": "data/tiny"}, "participants": list(PEOPLE), "folds": [0]}
    found = plan(**study, base={"max_epochs": [2, 4, 8], "early_stopping_patience": 5}).bases
    chain = {t.spec.max_epochs: (t.spec.early_stopping_patience, t.continues) for t in found.values()}
    hashes = {t.spec.max_epochs: name for name, t in found.items()}
    assert chain == {2: (None, None), 4: (None, hashes[2]), 8: (5, hashes[4])}
    mixed = plan(**study, base={"max_epochs": [4, 8], "early_stopping_patience": [None, 2]}).bases.values()
    links = {(t.spec.max_epochs, t.spec.early_stopping_patience): t.continues for t in mixed}
    names = {(t.spec.max_epochs, t.spec.early_stopping_patience): t.hash for t in mixed}
    assert links[8, None] == names[4, None] and links[8, 2] == names[4, 2]


def test_the_two_job_lists_of_the_fields_own_generator_share_all_their_bases(tmp_path, monkeypatch):
    """Base jobs do not say `pos_weight`, fine-tune jobs say 1: 17 bases and 612 fine-tunes of 7 people."""
    monkeypatch.chdir(tmp_path)
    people = [f"p{n}" for n in range(1, 8)]
    write_people(tmp_path / "data/x", people, binary=True, n=8)
    common = {"participants": people, "data_path": "data/x", "model": "test", "lr": 0.0003, "max_epochs": 100}
    common |= {"early_stopping_patience": 50, "use_augmentation": True, "window_size": 32}
    settings = [{"fold": fold, "n_base_participants": n} for fold in range(7) for n in (2, 4, 6)][:17]
    bases = [common | one | {"_base_model_hash": "x"} for one in settings]
    modes = [
        {"mode": mode, "target_data_pct": share, "batch_size": size, "early_stopping_patience_target": patience}
        for mode in ("full_fine_tuning", "target_only_fine_tuning", "last_layer_only")
        for share in (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
        for size, patience in ((64, 50), (64, 20))
    ]
    tunes = [common | one | mode | {"pos_weight": 1.0} for one in settings for mode in modes]
    assert (len(bases), len(tunes)) == (17, 612)
    apart, together = plan(jobs=bases), plan(jobs=bases + tunes)
    assert together.bases.keys() == apart.bases.keys() and not together.lone_bases


def test_a_spec_by_hand_is_read_in_the_form_that_names_it(tmp_path, monkeypatch):
    from rootstock.tasks.reading import read_spec

    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny", binary=True)
    (base,) = plan(**study_of("activity", "base", {})).bases.values()
    spelled = json.dumps(json.loads(base.json) | {"pos_weight": 1, "early_stopping_patience": 99})
    assert digest(read_spec(spelled, "base")) == base.hash


@pytest.mark.parametrize("task", ["activity", "language_model"])
def test_what_a_store_holds_under_a_former_name_is_not_trained_again(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    binary = {"binary": True} if task == "activity" else {}
    TINY[task].write(tmp_path / "data/tiny", **binary)
    own = {"pos_weight": 1} if task == "activity" else {"eval_every": 50}
    with pytest.MonkeyPatch.context() as before:  # as it was: no rule
        before.setattr(type(TASKS.find(task)), "normalised", lambda self, spec: spec)
        old, old_tuned = only(task, "base", own)
        former = train(job_of(old))
        former.publish_base(*(tmp_path / part for part in ("a.pt", "a_metadata.json")))
        train(replace(job_of(old_tuned), start_model=str(tmp_path / "a.pt")))
    (tmp_path / "store/former_names_1.json").unlink()  # written without the rules
    base, tuned = only(task, "base", own)
    assert base.hash != old.hash
    said = []
    kept = train(replace(job_of(base), say=said.append))
    assert any(f"under its former name {old.hash}" in line for line in said) and not any(
        "epoch 1/" in line for line in said
    )
    content, before = load(kept.model), load(former.model)
    assert content["hash"] == base.hash and digest(read_back(content["spec"])) == base.hash
    assert all(torch.equal(content["model"][name], before["model"][name]) for name in before["model"])
    assert kept.read()["former_name"] == old.hash and kept.read()["metrics"] == former.read()["metrics"]
    kept.publish_base(*(tmp_path / part for part in ("b.pt", "b_metadata.json")))
    said.clear()
    handed = train(replace(job_of(tuned), start_model=str(tmp_path / "b.pt"), say=said.append))
    assert "under its former name" in said[0]  # though its own spec names a base that has another name now
    assert handed.read()["base_hash"] == base.hash
    (tmp_path / "store/former_names_1.json").write_text("[]")  # a cache
    again = train(replace(job_of(base), store="store"))
    assert again.read()["hash"] == base.hash


def read_back(spec: dict):
    from rootstock.tasks.reading import spec_of

    return spec_of(spec)


def test_a_store_of_today_trains_what_it_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny")
    for seed in (0, 1):
        base, _ = only("activity", "base", {"seed": seed})
        said = []
        train(replace(job_of(base), say=said.append))
        assert any("epoch 1/" in line for line in said)
    names = json.loads((tmp_path / "store/former_names_1.json").read_text())
    assert all(name == today for name, today in names.items())
