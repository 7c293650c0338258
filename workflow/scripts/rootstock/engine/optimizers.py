"""torch's optimizers without loading torch's compiler, whose import takes longer than many a fine-tune."""

from typing import Any, TypeVar, cast

import torch
import torch._compile
from torch import nn
from torch.optim import Optimizer

from ..study.spec import Course, Optimisation

OptimizerT = TypeVar("OptimizerT", bound=Optimizer)
PLAIN = Course(epochs=1)  # as torch has it


def make_optimizer(model: nn.Module, spec: Optimisation, course: Course, *, compiled: bool = False) -> Optimizer:
    """The optimizer that `course` names, over the trainable parameters of `model`."""
    kind = {"adamw": adamw, "muon": muon}[course.optimizer]
    return kind(model, spec.lr, spec.weight_decay, course, compiled=compiled)


def adamw(
    model: nn.Module, lr: float, weight_decay: float, course: Course = PLAIN, *, compiled: bool = False
) -> Optimizer:
    """AdamW over the trainable parameters of `model`, with the course's betas and `decay_vectors`.

    One kernel does the whole update (`fused`). On CPUs it is four to five times as fast as torch's loop over
    operations.
    """
    groups = _groups(trainable(model), weight_decay, course.decay_vectors)
    kind = _light(torch.optim.AdamW, compiled)
    return kind(groups, lr=lr, betas=course.betas, weight_decay=weight_decay, fused=True)


def muon(
    model: nn.Module, lr: float, weight_decay: float, course: Course = PLAIN, *, compiled: bool = False
) -> Optimizer:
    """Muon (Jordan et al. 2024) for trainable matrices of linear layers, AdamW for all else, such as low-rank updates.

    Muon's updates are scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate serves both.
    """
    matrices = [
        layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    ]
    chosen = {id(matrix) for matrix in matrices}
    rest = _groups([p for p in trainable(model) if id(p) not in chosen], weight_decay, course.decay_vectors)
    for_matrices, for_rest = _light(torch.optim.Muon, compiled), _light(torch.optim.AdamW, compiled)
    parts: list[Optimizer] = []  # with low-rank updates the layers are frozen, so there may be no matrix
    if matrices:
        parts.append(for_matrices(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    if any(group["params"] for group in rest):
        parts.append(for_rest(rest, lr=lr, betas=course.betas, weight_decay=weight_decay, fused=True))
    return _Joined(*parts)


def _light(kind: type[OptimizerT], compiled: bool) -> type[OptimizerT]:
    """An optimizer class with the same update. torch's `step` imports `torch._dynamo` (1 to 5 s) only to break a graph
    that does not exist here. A compiled model loads it anyway."""
    plain = getattr(kind.step, "__wrapped__", None)
    if compiled or plain is None:
        return kind
    _leave_compiler_unloaded()
    return cast(type[OptimizerT], type(kind.__name__, (kind,), {"step": torch.no_grad()(plain)}))


class _Joined(Optimizer):
    """Several optimizers as one, each over its own parameters."""

    def __init__(self, *parts: Optimizer):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Any = None) -> Any:  # with torch's signature; the loop gives no closure
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        """Share the groups of the parts, so that a schedule that sets a learning rate here also sets it there."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _groups(parameters: list[nn.Parameter], weight_decay: float, decay_vectors: bool) -> list[dict[str, Any]]:
    if decay_vectors:
        return [{"params": parameters}]
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters: those that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _leave_compiler_unloaded() -> None:
    """Have optimizer methods that torch excludes from compilation called directly. torch calls a method's
    `__dynamo_disable`, and loads its compiler to make a missing one. If a later torch works differently, this changes
    nothing."""
    for method in vars(torch.optim.Optimizer).values():
        code, wrapped = getattr(method, "__code__", None), getattr(method, "__wrapped__", None)
        if wrapped is not None and code is not None and code.co_filename == torch._compile.__file__:
            setattr(wrapped, "__dynamo_disable", wrapped)
