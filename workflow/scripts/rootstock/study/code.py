"""The code that builds a model, and its identity: the hash of its syntax tree, without docstrings and comments.

Light: code is parsed, never imported. The hash must be the same under every version of Python, so it covers only node
types and the fields that are set: a new version adds fields, which are empty for old code. The output of `ast.dump` and
`ast.unparse` changes between versions.
"""

import ast
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .identity import digest
from .problems import Refusal

NO_MEANING = ("ctx", "kind", "type_comment")  # fields that follow from a node's place or have no effect
INSTALLED = ("site-packages", "dist-packages")  # modules that lie there side by side are unrelated
Stamp = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Code of one file: the top-level definitions `names` and what they use in it; without names, the whole file."""

    file: Path
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.file.name if self.file.parent == Path.cwd() else "/".join(self.file.parts[-2:])


def code_digest(sources: Iterable[Source]) -> str:
    """Return a hash of the syntax trees, 16 hex digits. Raise `Refusal` if a file cannot be read or is not Python."""
    return digest([_digest(source, _stamp(source.file)) for source in sources])


def with_imports(module: str, names: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """Return a module, or its definitions `names`, and in full the modules beside it that it imports, directly or not.

    Raise `Refusal` if the module is not found.
    """
    start = module_file(module)
    if start is None:
        fix = "check the spelling; in another folder than the project's add that one to PYTHONPATH"
        raise Refusal(f"no module {module!r} beside the Snakefile or installed; {fix}")
    found, waiting = {module: Source(start, names)}, [module]
    while waiting:
        name = waiting.pop()
        for other in _imported(name, found[name], _stamp(found[name].file)):
            file = None if other in found else _beside(other, module, start)
            if file:
                found[other] = Source(file)
                waiting.append(other)
    return tuple(found[name] for name in (module, *sorted(found.keys() - {module})))


def module_file(module: str) -> Path | None:
    """The file of a module; the project's folder is searched first.

    `find_spec` gets only the top name, because for a dotted name it would import the packages above.
    """
    top, *rest = module.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    try:
        found = _file(Path.cwd(), [top, *rest]) or find_spec(top)
    except (ImportError, AttributeError, ValueError, OSError):  # OSError: the name is too long for a file
        return None
    if found is None or isinstance(found, Path):
        return found
    if rest:
        return next(
            filter(None, (_file(Path(folder), rest) for folder in found.submodule_search_locations or ())), None
        )
    return Path(found.origin) if found.origin and found.origin.endswith(".py") else None


def tree_of(file: Path) -> ast.Module:
    """Return the syntax tree of a file. Raise `Refusal` if it cannot be read or is not Python."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise Refusal(f"{file.name} is not valid Python ({error}); mend it") from None


def _stamp(file: Path) -> Stamp:
    """Size, times and inode of a file: part of the cache keys, so that an unchanged file is not parsed again."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise Refusal(f"{file}: cannot be read ({error.strerror}); put it back") from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@cache
def _digest(source: Source, stamp: Stamp) -> str:
    try:
        return digest(_plain(_statements(source)))
    except RecursionError:
        raise Refusal(f"{source.file.name} is nested too deeply; split its longest expression") from None


def _statements(source: Source) -> list[ast.stmt]:
    """The top-level statements that define the source's names and all that these use, and those that bind no name."""
    body, wanted = tree_of(source.file).body, set(source.names)
    bound = [_bound(statement) for statement in body]
    if missing := wanted - set().union(*bound):
        raise Refusal(f"{source.file}: defines no {', '.join(sorted(missing))}")
    chosen: set[int] = set()
    while (
        new := {place for place, names in enumerate(bound) if not source.names or not names or names & wanted} - chosen
    ):
        chosen |= new
        wanted |= {node.id for place in new for node in ast.walk(body[place]) if isinstance(node, ast.Name)}
    return [body[place] for place in sorted(chosen)]


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds; empty for one that does more than bind names."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            found = {alias.asname or alias.name.partition(".")[0] for alias in names}
            return set() if "*" in found else found
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()


def _plain(value: Any) -> Any:
    """A syntax tree as plain values: the types of its nodes and the fields that are set."""
    match value:
        case ast.JoinedStr(values=parts):  # Python 3.12 adds empty parts
            return ["JoinedStr", [_plain(part) for part in parts if getattr(part, "value", None) != ""]]
        case ast.AST():
            fields = {name: field for name, field in ast.iter_fields(value) if field is not None and field != []}
            plain = {name: _plain(field) for name, field in fields.items() if name not in NO_MEANING}
            return [type(value).__name__, plain]
        case list():
            return [_plain(item) for item in value if not _is_text(item)]
        case _:
            return ascii(value)  # not repr: what it escapes depends on this Python's version of Unicode


def _is_text(item: Any) -> bool:
    """Whether a statement is only a string: a docstring, or a string that serves as a comment."""
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)


@cache
def _imported(module: str, source: Source, stamp: Stamp) -> tuple[str, ...]:
    """The modules that a module may import, and the packages above them and above the module itself."""
    package = module if source.file.name == "__init__.py" else module.rpartition(".")[0]
    nodes = [node for statement in _statements(source) for node in ast.walk(statement)]
    names = [name for node in nodes for name in _names_of(node, package)]
    parts = [name.split(".") for name in (*names, module)]
    return tuple(dict.fromkeys(".".join(one[:end]) for one in parts for end in range(1, len(one) + 1)))


def _names_of(node: ast.AST, package: str) -> Iterator[str]:
    """The modules that one statement may import: a name that it imports from a module may be a module too."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")
        above = above[: len(above) - node.level + 1] if node.level else []
        origin = ".".join(filter(None, [*above, node.module]))
        yield from (".".join(filter(None, [origin, alias.name])) for alias in node.names)


def _beside(name: str, module: str, start: Path) -> Path | None:
    """The file of the module `name`, if it belongs to `module`, whose file is `start`.

    It must lie in the folder that `module` is imported from or, if `module` is installed or part of this package, in
    the folder of `start`. The working folder does not matter.
    """
    top = start.parents[module.count(".") + (start.name == "__init__.py")]
    is_apart = top.name in INSTALLED or module.partition(".")[0] == __name__.partition(".")[0]
    found = None if start.parent.name in INSTALLED else _file(top, name.split("."))
    return found if found and found.is_relative_to(start.parent if is_apart else top) else None


def _file(folder: Path, parts: list[str]) -> Path | None:
    place = folder.joinpath(*parts)
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)
