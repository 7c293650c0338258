"""Which samples make a batch."""

from torch import Tensor


def even_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into ceil(N / batch_size) batches whose sizes differ by one at most: no tiny last batch."""
    return list(order.tensor_split(-(-len(order) // batch_size)))
