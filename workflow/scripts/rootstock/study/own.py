"""Classes of a user's own, named `package.module:Class`. To import one is to run its module, so a file's word is not enough: only what
this program's user named, in a study, a spec or a flag, is imported."""

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
    """Note that this program's user named a class, or none."""
    if path:
        if not is_own_path(path):
            raise Refusal(f"{show(path)}: names no class; write it as package.module:Class")
        NAMED.add(path)


def is_own_path(path: Any) -> bool:
    """Whether a text names a class as users name their own; what begins with two underscores is nobody's."""
    return isinstance(path, str) and PATH.fullmatch(path) is not None and "__" not in path


def require_named(path: str | None) -> None:
    """`Refusal` where only a file names a class."""
    if path is not None and path not in NAMED:
        fix = "if it is your own and you trust it, name it by --own_class, or load_model(…, own_class=…)"
        raise Refusal(f"class {show(path)}: only a file names it, so it is not imported; {fix}")


def own_class(path: str, kind: type[T]) -> type[T]:
    """A class that was named, imported. `Refusal` where it was not, or is no subclass of `kind`: what a file says is called
    with what that file says."""
    require_named(path)
    found = imported(path)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise Refusal(f"{path}: is no subclass of {kind.__module__}.{kind.__qualname__}")
    return found


def imported(path: str) -> Any:
    """What a module has under a name; a user's own module lies beside the Snakefile."""
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return getattr(import_module(module), name)
