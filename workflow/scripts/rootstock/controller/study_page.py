"""The page of a study: the answer, the evidence on gains, its task's sections, then those of any study."""

import json
import textwrap
from pathlib import Path
from typing import Any

from ..results import answer, gains, overview
from ..results.comparisons import compare
from ..results.page import Page, write_page
from ..results.papers import FILES, write_papers
from ..results.sections import Material, Section
from ..results.summary import summary_of
from ..results.words import WORDS
from ..store.files import write_atomically
from ..study import paths
from ..study.parts import explainer_of
from ..study.plan import Plan
from ..study.problems import StudyError
from ..study.reading import read_file
from ..study.told import printable
from .evidence import facts_of, grid_of, metadata_of, missing_table, models_of, records_of, sharing_of, stages_of
from .missing import Missing, missing_of, told, without

BESIDE = ("answer.txt", "summary.csv", "table.txt", "figure.svg", "missing.csv", *FILES)
COLUMNS = 110  # width of the answer on a screen


def write_report(wanted: Plan, path: Path, is_partial: bool = False) -> None:
    """Write the page of a plan to `path`, and beside it files for a paper. If it `is_partial`, it covers the results
    that are there; without any experiment, raise `StudyError`."""
    missing = missing_of(wanted) if is_partial else []
    plan = without(wanted, missing)
    if not plan.experiments:
        raise StudyError(told(missing, wanted).splitlines())
    material = material_of(plan)
    own = explainer_of(plan.study.task.reporter()).methods(plan)
    write_papers(path.parent, plan, material.summary, material.question, material.comparisons, own)
    sentences = answer_of(material, bool(missing))
    write_atomically(path.with_name(Path(paths.ANSWER).name), in_lines(sentences).encode())
    write_page(page_of(wanted, material, sentences, missing, path.parent), path)


def in_lines(sentences: list[str]) -> str:
    """Each sentence on its own lines, wrapped for a screen."""
    return "".join(
        textwrap.fill(printable(one), COLUMNS, break_long_words=False, break_on_hyphens=False) + "\n"
        for one in sentences
    )


def page_of(wanted: Plan, material: Material, sentences: list[str], missing: list[Missing], folder: Path) -> Page:
    """The page of a plan, with the `sentences` of its answer. `folder` holds its other results."""
    plan = material.plan
    own = explainer_of(plan.study.task.reporter()).sections(material)
    answered = material.chosen is not None
    return Page(
        title=wanted.study.name,
        description=str(json.loads(wanted.content).get("description") or ""),
        answer=sentences,
        lead=gains.lead(material.chosen, material.question) if answered else None,
        sections=[*_evidence(material), *own, *_of_any_study(wanted, plan, material, missing)],
        notice=told(missing, wanted) if missing else "",
        words=WORDS if answered else {},
        files=[name for name in BESIDE if (folder / name).exists()],
    )


def material_of(plan: Plan) -> Material:
    """The results of a plan, the question that they answer, and the comparisons."""
    reporter = plan.study.task.reporter()
    summary = summary_of(plan, reporter.result_columns)
    question = explainer_of(reporter).question(summary)
    comparisons = compare(summary, question) if question else []
    chosen = answer.chosen(comparisons, question) if question else None
    return Material(plan, summary, baselines_of(plan), question, comparisons, chosen)


def answer_of(material: Material, is_partial: bool) -> list[str]:
    """The sentences that answer a study."""
    if material.question is None:
        return ["This study compares nothing with a base model or with training from scratch, so there is no answer."]
    return answer.sentences(material.comparisons, material.question, is_partial)


def _evidence(material: Material) -> list[Section]:
    if material.chosen is None:
        return []
    asked = (material.comparisons, material.chosen, material.question)
    return [gains.evidence(*asked), gains.who(*asked)]


def baselines_of(plan: Plan) -> list[dict[str, Any]]:
    """The result rows of all classical models."""
    files = (Path(paths.BASELINE.format(study=plan.study.name, name=name)) for name in plan.baselines)
    return [row for file in files for row in read_file(file)]


def _of_any_study(wanted: Plan, plan: Plan, material: Material, missing: list[Missing]) -> list[Section]:
    metadata = metadata_of(plan)
    return [
        overview.coverage(grid_of(wanted), missing_table(missing)),
        overview.experiments(material.summary),
        overview.sharing(sharing_of(plan, metadata), stages_of(plan)),
        overview.costs(records_of(plan, metadata)),
        overview.provenance(facts_of(plan, metadata), models_of(plan, metadata)),
    ]
