"""What every shipped study plans is pinned: the names of models that people have on disk."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.study.plan import Plan

PINNED = Path(__file__).parent / "data/planned.json"
STUDIES = ["config/config.yaml", *(f"config/studies/{p.name}" for p in sorted(ROOT.glob("config/studies/*.yaml")))]

OTHERS = {  # what no shipped study has
    "stages and budgets": {
        "base": {"max_epochs": [2, 4], "pos_weight": None, "parent": [None, {"max_epochs": 3, "parent": {"lr": 0.1}}]},
        "finetune": [{"mode": ["target_only", "last_layer_only"]}, {"mode": "base_only"}],
        "folds": [0, 3], "baselines": ["svc"], "data": {"mirror": True}, "prefix": "x_{mode}",
    },
    "models and mixes": {
        "base": {"model": ["medium", "mine"], "use_augmentation": True, "mixup_alpha": 0.2, "n_base_participants": 4},
        "models": {"mine": {"preset": "test", "base_channels": 16}}, "folds": [1],
        "finetune": {"target_batch_pct": [None, 0.5], "freeze_batch_norm": [True, False], "seed_finetune": 3, "lr": 0.01},
    },
    "jobs": {
        "jobs": [
            {"fold": 0, "mode": "last_layer_only", "lr": "3e-4", "prefix": "mine"},
            {"fold": 1, "_base_model_hash": "", "base_participants": "all"},
        ]
    },
    "pairs": {
        "task": "distillation", "save_to_artifacts": True, "data": {"ontologies": ["cl", "mondo"], "split_seed": 3},
        "base": [{"layers": [[0, 5], [5]], "use_projection": False, "mrl_dimensions": [64, 384]}, {"max_epochs": [1, 2]}],
        "finetune": [{"mode": "base_only"}, {"num_negatives": [0, 3], "lr": 0.001, "seed_finetune": 2}],
    },
    "text": {
        "task": "language_model", "export": True, "domains": ["cells"], "base": {"max_steps": [250, 500, 1000], "precision": "bf16"},
        "finetune": [
            {"mode": "cool_down", "branch_at": 500}, {"mode": ["last_layers_only", "base_only"]},
            {"target_data_pct": 0.1, "schedule": "wsd"},
        ],
    },
}  # fmt: skip


def planned(name: str) -> Plan:
    return plan_content(OTHERS[name] | {"study": "other"} if name in OTHERS else content_of_workflow([name], None))


def names(plan: Plan) -> dict:
    """Everything that a plan gives a name to."""
    experiments: dict[str, dict[str, str]] = {}
    for (prefix, unit), experiment in plan.experiments.items():
        experiments.setdefault(prefix, {})[unit] = experiment.hash
    return {
        "prepared": sorted(plan.artefacts),
        "bases": sorted(plan.bases),
        "continues": {name: base.continues for name, base in sorted(plan.bases.items()) if base.continues},
        "baselines": sorted(plan.baselines),
        "exports": sorted(plan.exports),
        "experiments": {prefix: dict(sorted(units.items())) for prefix, units in sorted(experiments.items())},
    }


@pytest.mark.parametrize("study", [*STUDIES, *OTHERS])
def test_a_study_plans_the_names_that_it_always_had(study, monkeypatch):
    """Where this is meant to change, the changelog says so: `python tests/test_pinned.py` writes the table anew."""
    monkeypatch.chdir(ROOT)
    assert names(planned(study)) == json.loads(PINNED.read_text())[study]


def test_no_shipped_study_is_left_out():
    assert sorted(json.loads(PINNED.read_text())) == sorted([*STUDIES, *OTHERS])


if __name__ == "__main__":
    table = {study: names(planned(study)) for study in [*STUDIES, *OTHERS]}
    lines = (f"{json.dumps(study)}: {json.dumps(found)}" for study, found in table.items())
    PINNED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
