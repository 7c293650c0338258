"""Who takes part in what: units, and the people of a base training. Light: no torch."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ...study.problems import Problems
from ...study.request import Request, Unit
from ...study.validate import read_section
from .settings import Base, Data, Finetune, Scope

Asked = Request[Scope, Data, Base, Finetune]


def unit(scope: Scope, fold: int) -> Unit:
    """The unit of a fold: the participant at that position is the target."""
    target = everyone(scope)[fold]
    return Unit(f"fold{fold}_{target}", {"fold": fold, "target": target})


def everyone(scope: Scope) -> tuple[str, ...]:
    """All participants of a complete scope."""
    return scope.participants or ()


def checked_unit(scope: Scope, values: dict[str, Any], key: str, problems: Problems) -> Unit | None:
    """The unit that a user names by its `fold`."""
    given, last = values.get("fold"), len(everyone(scope)) - 1
    if given is None:
        problems.add(key, None, f"missing; {last + 1} participants have folds 0 to {last}")
        return None
    fold = _whole(given)
    if 0 <= fold <= last:
        return unit(scope, fold)
    problems.add(key, given, f"out of range; {last + 1} participants have folds 0 to {last}")
    return None


def earlier_stage(request: Asked, problems: Problems) -> Asked | None:
    """The stage that a base training starts from, as a request of its own; None if it starts from scratch."""
    if request.base.parent is None:
        return None
    own = {name: value for name, value in request.base if name not in request.base.parent and name != "parent"}
    stage = read_section(Base, request.base.parent, "base.parent", problems)
    wish = Base(**own | {name: getattr(stage, name) for name in stage.model_fields_set})
    return replace(request, base=wish, finetune=None)


def saw_target(request: Asked) -> bool:
    """Whether any stage of a base training learned from the target."""
    return any(_learns_target(stage) for stage in _stages(request))


def check_test_set(request: Asked, problems: Problems) -> None:
    """Report a base training with a stage that trains on all windows and so learns from the target's test set."""
    if any(stage.base.early_stopping_metric == "last" and _learns_target(stage) for stage in _stages(request)):
        fix = "trains on the test set of a target that is among the base's people; set loss, or participants: others"
        problems.add("base.early_stopping_metric", "last", fix)


def _learns_target(stage: Asked) -> bool:
    return stage.unit.values["target"] in base_people(stage, Problems())


def _stages(request: Asked) -> Iterator[Asked]:
    """A base training and the stages before it, the latest first."""
    stage: Asked | None = request
    while stage:
        yield stage
        stage = earlier_stage(stage, Problems())


def null_patience(request: Asked) -> list[str]:
    """A note on what a patience of null means for a fine-tune, where it has a name of its own, if the base has one."""
    wish, name = request.finetune, "early_stopping_patience_target"
    if wish is None or name not in wish.model_fields_set or getattr(wish, name) is not None:
        return []
    patience = request.base.early_stopping_patience
    return [f"finetune.{name}: null is as the base has it, {patience}"] if patience else []


def base_people(request: Asked, problems: Problems) -> tuple[str, ...]:
    """The sorted set of people of a base training; empty if a fault was reported."""
    people, wanted = _named_people(request, problems), request.base.n_base_participants
    if wanted != "all":
        if people and wanted > len(people):
            problems.add("base.n_base_participants", wanted, f"more than there are; at most {len(people)}")
        people = people[:wanted]
    return tuple(sorted(set(people)))


def _named_people(request: Asked, problems: Problems) -> tuple[str, ...]:
    wish, target = request.base.participants, request.unit.values["target"]
    if wish == "all":
        return everyone(request.scope)
    if wish == "others":
        return tuple(person for person in everyone(request.scope) if person != target)
    for name in sorted({p for p in wish if wish.count(p) > 1}):
        problems.add("base.participants", name, "is listed twice; list each once")
    unknown = [name for name in wish if name not in everyone(request.scope)]
    for name in unknown:
        problems.unknown("base.participants", name, everyone(request.scope))
    if target in wish and not unknown:
        fix = f"contains {target}, the target of {request.unit.name}; leave it out, or use all"
        problems.add("base.participants", list(wish), fix)
    return () if unknown or target in wish else wish


def _whole(value: Any) -> int:
    """A position as people and programs write it: 1, "1", or 1.0 as pandas does; -1 if it is not a whole number."""
    try:
        return -1 if isinstance(value, bool) or float(value) % 1 else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return -1


def people_wanted(request: Asked) -> dict[str, Any]:
    """The people that a setting asks for, whoever is left out."""
    listed, first_n = request.base.participants, request.base.n_base_participants
    n_people = len(everyone(request.scope))
    available = {"all": n_people, "others": n_people - 1}[listed] if isinstance(listed, str) else len(listed)
    return {
        "participants": request.scope.participants,
        "base_participants": listed,
        "n_base_participants": None if first_n in ("all", available) else first_n,
    }
