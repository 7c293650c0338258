"""Which files a study's rules make if it is one of several modules of a workflow: the first makes what two share."""

import re
from typing import Any

from ..study.plan import Plan
from ..study.problems import StudyError
from ..study.told import told_as_lines

NAME = "[A-Za-z0-9._-]+"
ANY = {"hash": "[0-9a-f]{16}", "name": NAME, "prefix": NAME, "unit": NAME, "study": NAME}
Made = dict[str, set[str]]


@told_as_lines()
def wildcards_made(plan: Plan, module: str | None, workflow: Any) -> dict[str, str]:
    """Patterns for the wildcards of a study's rules: any name if it is the only study of a run; in a `module`, what its
    plan asks for and no earlier module makes. `workflow` is Snakemake's."""
    exports = {"export": _one_of(plan.exports)}
    if module is None:
        return ANY | exports
    known: dict[str, tuple[Plan, Made]] = workflow.__dict__.setdefault("rootstock_made", {})
    others = {name: found for name, found in known.items() if name != module}
    made = {
        "hash": set(plan.bases),
        "prefix": {prefix for prefix, _ in plan.experiments},
        "name": {*plan.artefacts, *plan.baselines},
    }
    for name, (other, theirs) in others.items():
        _require_whole(plan, module, other, name)
        made = {wildcard: values - theirs[wildcard] for wildcard, values in made.items()}
    known[module] = plan, made
    return ANY | {wildcard: _one_of(values) for wildcard, values in made.items()} | _of_study(plan) | exports


def _require_whole(plan: Plan, module: str, other: Plan, name: str) -> None:
    """Raise `StudyError` if both modules have the same study name, or if this one asks for a unit that the other lacks
    of a setting that they share: the earlier module's rules make every unit of such a setting."""
    if plan.study.name == other.study.name:
        raise StudyError(
            [f"study: modules {name} and {module} are both called {plan.study.name}; give each a name of its own"]
        )
    theirs = {prefix for prefix, _ in other.experiments}
    apart = sorted({prefix for prefix, unit in plan.experiments.keys() - other.experiments.keys() if prefix in theirs})
    if apart:
        fix = "run the two studies one after the other, or let both have the same units"
        raise StudyError([f"modules {name} and {module} ask for other units of the same setting ({apart[0]}); {fix}"])


def _of_study(plan: Plan) -> dict[str, str]:
    return {"study": re.escape(plan.study.name)}


def _one_of(values: Any) -> str:
    return "|".join(map(re.escape, sorted(values))) or "(?!)"
