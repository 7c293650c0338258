"""A user's own classes, named `package.module:Class`.

Importing a class runs its module, so a name in a model's file is not enough: a class is imported only if this program's
user named it, in a study, a spec or a flag.
"""

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from .problems import Refusal, show

PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
NAMED: set[str] = set()

T = TypeVar("T")


def name_own(path: str | None) -> None:
    """Record the class that this program's user named, if any. Raise `Refusal` if the text names no class."""
    if path:
        if not is_own_path(path):
            raise Refusal(f"{show(path)}: names no class; write it as package.module:Class")
        NAMED.add(path)


def is_own_path(path: Any) -> bool:
    """Whether a value names a class as users name their own. Names with two underscores in a row are rejected."""
    return isinstance(path, str) and PATH.fullmatch(path) is not None and "__" not in path


def require_named(path: str | None) -> None:
    """Raise `Refusal` if only a file names a class."""
    if path is not None and path not in NAMED:
        fix = "if it is your own and you trust it, name it by --own_class, or load_model(…, own_class=…)"
        raise Refusal(f"class {show(path)}: only a file names it, so it is not imported; {fix}")


def own_class(path: str, kind: type[T]) -> type[T]:
    """Import and return a class that the user named. Raise `Refusal` if the user did not name it or it is not a
    subclass of `kind`, because it will be called with arguments from a file."""
    require_named(path)
    found = imported(path)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise Refusal(f"{path}: is no subclass of {kind.__module__}.{kind.__qualname__}")
    return found


def imported(path: str) -> Any:
    """Import and return what `module:Class` names; a user's own module lies beside the Snakefile."""
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return getattr(import_module(module), name)
