"""Fully sharded data parallelism (FSDP2): weights, gradients and optimizer state spread over the processes of a training.

States are gathered before they are saved, so a checkpoint is as for any other training: one verified file, from which
any number of processes resume. torch.distributed.checkpoint writes one file per process and a pickled index; reading a
pickle can run foreign code.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor, nn

from ..study.problems import Refusal
from ..study.run import Run

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def shard(model: nn.Module, blocks: Iterable[nn.Module] | None, precision: str, run: Run) -> tuple[int, int]:
    """Spread a model over all processes before its optimizer is made: each holds a part, and gathers one block at a
    time.

    Return how many parameters this process holds, and how many there are. Each process must call the model equally
    often. Raise `Refusal` for a network without blocks, for fp16 and for a compiled model.
    """
    from torch.distributed.fsdp import fully_shard

    if blocks is None:
        raise Refusal("run.shard: true needs a network of blocks, and this one has none; remove it")
    if precision == "fp16" or run.compile:
        raise Refusal("run.shard: true goes neither with precision: fp16 nor with compile; change one of them")
    device = "cuda" if next(model.parameters()).is_cuda else "cpu"
    mesh = _mesh(device)
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters = list(model.parameters())
    return sum(one.to_local().numel() for one in parameters if is_spread(one)), sum(map(Tensor.numel, parameters))


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be spread. If it is, every process must call this."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def is_model_spread(model: nn.Module) -> bool:
    """Whether this process holds only a part of the model's weights."""
    return any(map(is_spread, model.parameters()))


def is_spread(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether this process holds only a part of the tensor."""
    return hasattr(tensor, "full_tensor")


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load whole weights into a model that may be spread."""
    own = model.state_dict()
    model.load_state_dict({name: _as(value, own[name]) if name in own else value for name, value in state.items()})


def spread_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A whole optimizer state, spread like the parameters: this applies to each moment of its parameter's shape."""
    if "parts" in state:
        return {"parts": [spread_state(*pair) for pair in zip(optimizer.parts, state["parts"], strict=True)]}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return state | {
        "state": {
            number: {
                name: _as(v, parameters[number]) if isinstance(v, Tensor) and v.shape == parameters[number].shape else v
                for name, v in moments.items()
            }
            for number, moments in state["state"].items()
        }
    }


def _as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, spread like another one. Each process has all of it and keeps its part."""
    if not is_spread(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _mesh(device: str) -> Any:
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (get_world_size(),))
