"""The samples of each batch."""

from torch import Tensor

from ..study.problems import Refusal


def even_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into ceil(N / batch_size) batches. Sizes differ by one at most, so no batch is tiny. Raise `Refusal`
    if N is 0."""
    if not len(order):
        raise Refusal("no samples to train on; give more data, or a larger share of it")
    return list(order.tensor_split(-(-len(order) // batch_size)))
