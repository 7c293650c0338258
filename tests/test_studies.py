"""Every shipped study plans, the committed schema is the generated one, and the documents name every key."""

import json
import re

import jsonschema
import pytest
from conftest import ROOT

from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.study.reading import read_file
from rootstock.study.run import Run
from rootstock.study.schema import study_schema
from rootstock.study.tables import with_tables
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


@pytest.mark.parametrize(
    "study", [study for study in STUDIES if "phase1" not in study.read_text()], ids=lambda p: p.stem
)
def test_the_schema_takes_every_shipped_study(study):
    jsonschema.validate(read_file(study), study_schema(TASKS))


def test_the_schema_refuses_what_the_plan_would():
    for wrong in ({"base": {"lr": 0}}, {"run": {"threads": 0}}, {"basis": {}}, {"finetune": {"mode": "all"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"study": "s"} | wrong, study_schema(TASKS))


def test_the_committed_tables_of_keys_are_the_generated_ones():
    committed = (ROOT / "config/README.md").read_text()
    assert with_tables(committed, TASKS) == committed, "run: generate_jobs.py --keys config/README.md"


@pytest.mark.parametrize("task", TASKS.names)
def test_the_config_readme_has_every_key_where_it_belongs(task):
    text = (ROOT / "config/README.md").read_text()
    module = TASKS.find(task)
    sections = {"scope": module.scope_section, "data": module.data_section, "base": module.base_section}
    for name, section in sections.items():
        table = text.partition(f"<!-- keys: {task} {name} -->")[2].partition("<!-- end")[0]
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(section.model_fields)
    assert set(
        re.findall(r"^\| `(\w+)` \|", text.partition("<!-- keys: run -->")[2].partition("<!-- end")[0], re.M)
    ) == set(Run.model_fields)


def test_every_key_has_a_description():
    for task in TASKS.names:
        module = TASKS.find(task)
        for section in (module.scope_section, module.data_section, module.base_section, module.finetune_section):
            for name, field in section.model_fields.items():
                assert field.description, f"{section.__name__}.{name}"
