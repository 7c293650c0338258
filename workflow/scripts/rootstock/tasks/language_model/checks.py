"""Settings of a request that fit their own field but not each other. Light: no torch."""

from ...study.problems import Problems
from .resolved import Asked, branch_training
from .settings import GENERAL, Base, Model, Training
from .specs import LORA
from .start import check_start, model_of


def check(request: Asked, problems: Problems) -> None:
    """Report all such settings."""
    base, wish, shape = request.base, request.finetune, model_of(request.base)
    check_start(base, problems)
    if base.start_from is None:
        _check_heads(base, problems)
    if base.max_steps:
        _check_training("base", base, problems)
    if wish and shape:
        _check_branch(request, shape, problems)
    if wish and wish.mode != "base_only" and not (wish.max_steps or base.max_steps):
        problems.add("finetune.max_steps", None, "is needed: the trunk takes no step whose number could be meant")
    elif wish and wish.mode != "base_only":
        _check_training("finetune", branch_training(request), problems)


def _check_heads(base: Base, problems: Problems) -> None:
    if base.d_model % base.n_heads:
        fix = f"is not divisible by n_heads: {base.n_heads}; change one of them"
        problems.add("base.d_model", base.d_model, fix)
    elif base.d_model // base.n_heads % 2:
        fix = f"leaves {base.d_model // base.n_heads} for each of {base.n_heads} heads; rotary positions need an even number"
        problems.add("base.d_model", base.d_model, fix)


def _check_training(key: str, wish: Training, problems: Problems) -> None:
    if wish.warmup_steps > wish.max_steps:
        problems.add(f"{key}.warmup_steps", wish.warmup_steps, f"is more than max_steps: {wish.max_steps}")
    if wish.decay_pct is not None and wish.schedule != "wsd":
        problems.add(f"{key}.decay_pct", wish.decay_pct, f"is for schedule wsd, not {wish.schedule}; remove it")


def _check_branch(request: Asked, shape: Model, problems: Problems) -> None:
    wish, cools = request.wish, request.wish.mode == "cool_down"
    if request.is_founded and cools != (request.unit.name == GENERAL):
        fix = "continues with all text; remove the domain" if cools else "needs a domain"
        problems.add("finetune.mode", wish.mode, fix)
    if request.key and wish.branch_at not in (None, request.base.max_steps):  # a flat job; `check_grid` checks grids
        fix = f"is not max_steps of its trunk: {request.base.max_steps}; change one of them"
        problems.add("finetune.branch_at", wish.branch_at, fix)
    if cools and wish.target_data_pct != 1:
        fix = "is of a domain; a cool_down has none; remove it"
        problems.add("finetune.target_data_pct", wish.target_data_pct, fix)
    if wish.trained_layers is not None and wish.mode != "last_layers_only":
        problems.add("finetune.trained_layers", wish.trained_layers, f"needs mode last_layers_only, not {wish.mode}")
    for name in LORA:
        if wish.mode != "lora" and (value := getattr(wish, name)) is not None:
            problems.add(f"finetune.{name}", value, f"needs mode lora, not {wish.mode}")
    if (wish.rank or 1) > (most := min(shape.d_model, shape.d_ff, shape.n_key_heads * shape.d_head)):
        problems.add("finetune.rank", wish.rank, f"is more than the narrowest layer has: {most}")
    if (wish.trained_layers or 1) > shape.n_layers:
        problems.add("finetune.trained_layers", wish.trained_layers, f"is more than n_layers: {shape.n_layers}")
