"""Every shipped study plans, the committed schema is the generated one, and the documents name every key."""

import json
import re

import pytest
from conftest import ROOT

from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.study.reading import read_file
from rootstock.study.run import Run
from rootstock.study.schema import study_schema
from rootstock.tasks.registry import TASKS

STUDIES = [ROOT / "config/config.yaml", *sorted((ROOT / "config/studies").glob("*.yaml"))]


def test_studies_are_found():
    assert len(STUDIES) >= 5


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.stem)
def test_every_shipped_study_plans(study):
    plan = plan_content(content_of_workflow([str(study)], None))
    assert plan.bases and plan.experiments
    assert read_file(study)["description"]


def test_the_default_study_is_what_it_promises():
    plan = plan_content(content_of_workflow([str(STUDIES[0])], None))
    rows = [e.settings for e in plan.experiments.values()]
    assert len({r["target"] for r in rows}) == 10 and len(plan.bases) == 10
    trained = [r for r in rows if r["mode"] != "base_only"]
    assert len({r["mode"] for r in trained}) >= 3 and len({r["target_data_pct"] for r in trained}) >= 4


def test_the_committed_schema_is_the_generated_one():
    committed = json.loads((ROOT / "config/schema.json").read_text())
    assert committed == json.loads(json.dumps(study_schema(TASKS))), (
        "run: generate_jobs.py --schema > config/schema.json"
    )


@pytest.mark.parametrize("task", TASKS.names)
def test_the_config_readme_names_every_key(task):
    text = (ROOT / "config/README.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", text))
    module = TASKS.find(task)
    for section in (module.scope_section, module.data_section, module.base_section, module.finetune_section, Run):
        missing = set(section.model_fields) - named
        assert not missing, f"{section.__name__}: {missing}"


def test_every_key_has_a_description():
    for task in TASKS.names:
        module = TASKS.find(task)
        for section in (module.scope_section, module.data_section, module.base_section, module.finetune_section):
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"
