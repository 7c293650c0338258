"""What is kept of a fine-tune: a mix with its base, the base itself if nothing was gained, or changes. Loads torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.loop import Outcome
from ...engine.models import weights_digest
from ...engine.progress import Fitted
from .specs import FinetuneSpec


def mixed_with_base(fitted: Fitted, model: nn.Module, base: dict[str, Tensor], share: float) -> Fitted:
    """Put `share` of the base's weights plus the rest of the fine-tune's into `model` (WiSE-FT, Wortsman et al. 2022).
    A low-rank update is scaled by 1 - `share`.
    """
    state = {name: _mixed(name, one, base.get(name), 1 - share) for name, one in fitted.state.items()}
    model.load_state_dict(state)
    return replace(fitted, state=state, measured={})


def _mixed(name: str, tuned: Tensor, base: Tensor | None, weight: float) -> Tensor:
    if base is None:  # a part of an update, which the base does not have
        return weight * tuned if name.endswith(".up") else tuned
    return torch.lerp(base, tuned, weight) if tuned.is_floating_point() else tuned


def keep_base_if_asked(
    spec: FinetuneSpec,
    outcome: Outcome,
    base: dict[str, Tensor],
    base_val: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Replace a fine-tune by its base model if it is not better on the target's val set; metrics say `kept_base`."""
    if not spec.keep_base_if_worse:
        return
    found = outcome.metrics["val"]
    kept = not is_better(found, base_val)
    outcome.metrics["kept_base"] = kept
    outcome.metrics["before_keeping"] = {name: outcome.metrics[name] for name in ("val", "test")}
    say(f"val: {_told(found)}, the base model {_told(base_val)}: {'the base model is kept' if kept else 'a gain'}")
    if kept:
        outcome.model["model"] = dict(base)
        outcome.metrics |= {"val": base_val, "test": outcome.metrics["base_test"]}


def is_better(found: dict[str, Any], base: dict[str, Any]) -> bool:
    """Whether more windows are right, or as many with a lower loss."""
    return (found["accuracy"], -found["loss"]) > (base["accuracy"], -base["loss"])


def keep_changes_only(spec: FinetuneSpec, outcome: Outcome, base: dict[str, Tensor]) -> None:
    """If the mode changes a part of the base model, keep only that part, with a digest of the base model's weights."""
    if not spec.is_update:
        return
    weights = outcome.model["model"]
    changed = {name: one for name, one in weights.items() if name not in base or not torch.equal(one, base[name])}
    outcome.model |= {"model": changed, "base_weights": weights_digest(base)}


def _told(val: dict[str, Any]) -> str:
    return f"{100 * val['accuracy']:.1f} % right, loss {val['loss']:.3f}"
