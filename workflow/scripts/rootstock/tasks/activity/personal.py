"""What only some fine-tunes have: an amount of the target's windows, and what their mode needs. Light: no torch."""

from typing import Any

from ...study.problems import Problems
from .settings import ADAPTER_DEFAULTS, GRADIENT_FREE, PROTOTYPE_DEFAULTS, Base, Finetune
from .specs import FinetuneSpec

OF_MODE = {"adapters": ADAPTER_DEFAULTS, "prototypes": PROTOTYPE_DEFAULTS}
OTHERS = ("target_only", "base_only")  # modes that cannot keep the base model instead of their result


def check(base: Base, wish: Finetune | None, problems: Problems) -> None:
    """Report settings of a fine-tune that do not go together."""
    if wish is None:
        return
    for mode, own in OF_MODE.items():
        for name in own:
            if wish.mode != mode and getattr(wish, name) is not None:
                fix = f"is for mode {mode}, not {wish.mode}; remove it, or give each mode a grid of its own"
                problems.add(f"finetune.{name}", getattr(wish, name), fix)
    if wish.target_shots is not None and wish.target_data_pct != 1:
        problems.add("finetune.target_shots", wish.target_shots, "stands beside target_data_pct; give one of them")
    if wish.keep_base_if_worse and wish.mode in OTHERS:
        fix = f"needs a fine-tune of a base model, not mode {wish.mode}; remove it there"
        problems.add("finetune.keep_base_if_worse", True, fix)
    if wish.base_share and wish.mode in (*OTHERS, *GRADIENT_FREE):
        fix = f"is for modes that take steps from a base model, not {wish.mode}; remove it there"
        problems.add("finetune.base_share", wish.base_share, fix)
    keeps_last = (wish.early_stopping_metric or base.early_stopping_metric) == "last"
    if wish.keep_base_if_worse and keeps_last and wish.mode not in GRADIENT_FREE:
        fix = "has nothing to judge by: with early_stopping_metric: last all windows train; set that to loss or f1"
        problems.add("finetune.keep_base_if_worse", True, fix)


def amount_of(wish: Finetune) -> dict[str, Any]:
    """The number of windows per class, or a share of all."""
    if wish.target_shots is not None:
        return {"target_shots": wish.target_shots}
    return {"target_data_pct": wish.target_data_pct}


def of_mode(wish: Finetune) -> dict[str, Any]:
    """What the mode needs, defaults filled in; and how much of the base model, or whether all of it, may be kept."""
    own = OF_MODE.get(wish.mode, {})
    given = {name: default if getattr(wish, name) is None else getattr(wish, name) for name, default in own.items()}
    return given | {"base_share": wish.base_share, "keep_base_if_worse": wish.keep_base_if_worse}


def columns(finetune: FinetuneSpec) -> dict[str, Any]:
    """Those of these settings that a fine-tune has."""
    names = ("target_shots", *ADAPTER_DEFAULTS, *PROTOTYPE_DEFAULTS)
    found = {name: value for name in names if (value := getattr(finetune, name)) is not None}
    found |= {"base_share": finetune.base_share} if finetune.base_share else {}
    return found | ({"keep_base_if_worse": True} if finetune.keep_base_if_worse else {})
