"""What the reader of a plan should know about a request. Light: no torch."""

from .people import Asked
from .settings import AUGMENTATION_DEFAULTS


def without_augmentation(request: Asked, key: str) -> list[str]:
    """Notes on settings of augmentation that a section gives although its training does not augment."""
    wish = request.base if key == "base" else request.finetune
    own = wish and wish.use_augmentation
    if not wish or (request.base.use_augmentation if own is None else own):
        return []
    given = [name for name in AUGMENTATION_DEFAULTS if getattr(wish, name)]
    return [f"{key}.{name}: has no effect without use_augmentation: true" for name in given]
