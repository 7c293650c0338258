"""Training settings of a trunk and a branch, with everything filled in that a study does not give. Light: no torch."""

from typing import Any

from ...study.fields import inherited
from ...study.request import Request
from .settings import TARGETS, Base, Branch, Data, Finetune, Scope, Training

Asked = Request[Scope, Data, Base, Finetune]

DECAY_PCT = 0.2
RANK = 8


def low_rank(wish: Branch) -> dict[str, Any]:
    rank = wish.rank or RANK
    return {"rank": rank, "alpha": wish.alpha or 2.0 * rank, "targets": wish.targets or tuple(TARGETS)}


def training_of(wish: Training) -> dict[str, Any]:
    """Training fields, with the default share of the decay if the schedule has one."""
    values = {name: getattr(wish, name) for name in Training.model_fields}
    if wish.schedule == "wsd" and wish.decay_pct is None:
        values["decay_pct"] = DECAY_PCT
    return values


def branch_training(request: Asked) -> Training:
    """The branch's own training settings over the trunk's. By default a cool-down ends at a learning rate of 0."""
    base, wish = request.base, request.wish
    if wish.mode == "cool_down":
        base = base.model_copy(update={"schedule": "linear", "decay_pct": None})
    values = inherited(Training, base, wish, seed="seed_finetune")
    if values["schedule"] != "wsd":
        values["decay_pct"] = wish.decay_pct
    return Training(**values)
