"""The page of two studies of one task."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..results import answer, gains, overview
from ..results.comparisons import Comparison
from ..results.page import Page
from ..results.sections import Section, Table
from ..results.statistics import TIE
from ..results.two_studies import Studied, compare_studies
from ..results.words import WORDS
from ..study import paths
from ..study.plan import Plan
from ..study.problems import Refusal
from .evidence import facts_of, metadata_of
from .study_page import material_of

PLACE = paths.RESULTS + "/compared_with_{other}/report.html"


def place_of(plans: tuple[Plan, Plan]) -> Path:
    """The default path of the page: beside the results of the second study, whose gains it shows."""
    first, second = plans
    return Path(PLACE.format(study=second.study.name, other=first.study.name))


def page_of_two(plans: tuple[Plan, Plan]) -> Page:
    """The page on the gains of the second study over the first. Raise `Refusal` if they cannot be compared."""
    names = _names(plans)
    first, second = (_studied(plan) for plan in plans)
    comparisons, question = compare_studies(first, second), second.question
    chosen = answer.chosen(comparisons, question)
    assert chosen is not None  # without comparisons `compare_studies` raises a Refusal
    summaries = (first.summary, second.summary)
    apart = overview.differences(summaries, names)
    differ = Table("differences", "Settings that differ", "All values of each.", apart, is_long=len(apart) > 10)
    return Page(
        title=f"{names[1]}, compared with {names[0]}",
        description=f"A gain is what {names[1]} has more than {names[0]}, setting by setting.",
        answer=[*answer.sentences(comparisons, question), _all(comparisons, names[0])],
        lead=gains.lead(chosen, question, names[1]),
        sections=[
            gains.evidence(comparisons, chosen, question), gains.who(comparisons, chosen, question),
            Section("How the studies differ", [differ] if len(apart) else ["Their settings have the same values."]), _origin(plans),
        ],
        words=WORDS,
    )  # fmt: skip


def _all(comparisons: Sequence[Comparison], first: str) -> str:
    """A sentence on all comparisons, because the answer is about the best one only."""
    means = [one.mean for one in comparisons]
    better, worse = (sum(sign * mean > TIE for mean in means) for sign in (1, -1))
    equal = len(means) - better - worse
    return f"Of {len(means)} comparisons with {first}, {better} are better in the mean, {equal} equal, {worse} worse."


def _names(plans: tuple[Plan, Plan]) -> tuple[str, str]:
    first, second = (plan.study for plan in plans)
    if first.task_name != second.task_name:
        raise Refusal(
            f"--compare: {first.name} is of task {first.task_name}, {second.name} of {second.task_name}; give two of one task"
        )
    if first.name == second.name:
        raise Refusal(f"--compare: both studies are named {first.name}; give two of different names")
    return first.name, second.name


def _studied(plan: Plan) -> Studied:
    material = material_of(plan)
    if material.question is None:
        raise Refusal(f"--compare: {plan.study.name} asks nothing that could be compared")
    return Studied(plan.study.name, material.summary, material.question)


def _origin(plans: tuple[Plan, Plan]) -> Section:
    """The provenance of both studies, side by side."""
    facts = [facts_of(plan, metadata_of(plan)) for plan in plans]
    rows = [(what, *(one.get(what) for one in facts)) for what in dict.fromkeys([*facts[0], *facts[1]])]
    table = pd.DataFrame(rows, columns=["what", *(f"in {plan.study.name}" for plan in plans)])
    return Section("Provenance", [Table("provenance", "Made by and from", "What the models' own records say.", table)])
