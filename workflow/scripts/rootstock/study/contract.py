"""Check that a class keeps the contract of a task: find what is missing or of the wrong kind before anything runs."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .fields import Section
from .parts import OPTIONAL, PARTS, package_of
from .spec import BaseSpec, FinetuneSpec
from .task import Task

CLASSES: dict[str, type] = {
    "scope_section": Section,
    "data_section": Section,
    "base_section": Section,
    "finetune_section": Section,
    "base_spec_type": BaseSpec,
    "finetune_spec_type": FinetuneSpec,
}
VALUES: dict[str, type | tuple[type, ...]] = {
    "unit_word": str,
    "recipe": int,
    "same_code": Mapping,
    "has_blocks": bool,
    "foundations": tuple,
    "flat": Mapping,
    "unit_help": Mapping,
    "own_finetune_fields": tuple,
}
NEEDED = ("train", "report")  # modules that every task has; the others are optional


def faults_of(task: Any) -> list[str]:
    """Return what is wrong with a class as a task, one phrase per fault; an empty list if it keeps the contract.

    Light: modules that load torch or pandas are parsed, not imported.
    """
    if not (isinstance(task, type) and issubclass(task, Task)):
        return ["is not a subclass of rootstock.study.task.Task"]
    faults = [*_wrong_classes(task), *_wrong_values(task), *_wrong_methods(task)]
    faults += [] if faults else _half_a_unit(task)
    if not package_of(task):
        return [*faults, "stands in a module of no package; put it into a folder, as folder/task.py"]
    return faults + [fault for part in PARTS for fault in _wrong_part(task, part)]


def _wrong_classes(task: type[Task]) -> Iterator[str]:
    for name, kind in CLASSES.items():
        found = getattr(task, name, None)
        if found is None:
            yield f"lacks {name}; give it a subclass of {kind.__module__}.{kind.__name__}"
        elif not (isinstance(found, type) and issubclass(found, kind)):
            yield f"has {name}: {found!r}, which is not a subclass of {kind.__module__}.{kind.__name__}"
        elif name.endswith("spec_type") and getattr(found, "__abstractmethods__", None):
            yield f"has {name} without {_list(found.__abstractmethods__)}; see {kind.__module__}"


def _wrong_values(task: type[Task]) -> Iterator[str]:
    for name, kind in VALUES.items():
        if not isinstance(getattr(task, name), kind):
            yield f"has {name}: {getattr(task, name)!r}, which is no {getattr(kind, '__name__', kind)}"


def _wrong_methods(task: type[Task]) -> Iterator[str]:
    for name, wanted in vars(Task).items():
        if not inspect.isfunction(wanted) or name.startswith("_"):
            continue
        found = inspect.getattr_static(task, name)
        if getattr(found, "__isabstractmethod__", False):
            yield f"lacks the method {name}({_list(_arguments(wanted))})"
        elif not inspect.isfunction(found):
            yield f"has {name}, which is no method"
        elif len(_arguments(found)) != len(_arguments(wanted)):
            yield f"has {name}({_list(_arguments(found))}), which takes ({_list(_arguments(wanted))})"


def _half_a_unit(task: type[Task]) -> Iterator[str]:
    """Faults of a task with units of its own that cannot be read back from flat jobs and flags: all would be one."""
    own = [name for name in ("units", "unit_of_job") if getattr(task, name) is not getattr(Task, name)]
    routes = [name for name, (section, _) in task.flat.items() if section == "unit"]
    if own and (len(own) < 2 or not routes):
        yield 'has units of its own: it needs units, unit_of_job, and in flat a name that goes to ("unit", …)'
    for name in set(routes) - set(task.unit_help):
        yield f"lacks unit_help for {name}"


def _wrong_part(task: type[Task], part: str) -> Iterator[str]:
    """Faults of a module beside the task's own, found by parsing its source."""
    found = find_spec(f"{package_of(task)}.{part}")
    if found is None or not found.origin:
        if part in NEEDED:
            yield f"lacks the module {part}.py beside its own"
        return
    there = _functions(Path(found.origin))
    needed = _public(PARTS[part])
    for name, wanted in {**needed, **_public(OPTIONAL.get(part, object))}.items():
        count = len(_arguments(wanted))
        if name in needed and name not in there:
            yield f"lacks the function {name}({_list(_arguments(wanted))}) in {part}.py"
        elif there.get(name) not in (None, count):
            yield f"has {name} with {there[name]} arguments in {part}.py, which takes ({_list(_arguments(wanted))})"


def _public(protocol: type) -> dict[str, Any]:
    """The public functions of a protocol."""
    return {name: it for name, it in vars(protocol).items() if inspect.isfunction(it) and not name.startswith("_")}


def _functions(file: Path) -> dict[str, int | None]:
    """The names that a module defines or imports at its top; functions defined there with their number of arguments."""
    names: dict[str, int | None] = {}
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.FunctionDef):
            names[node.name] = len(node.args.posonlyargs) + len(node.args.args)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: None for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id: None for target in node.targets if isinstance(target, ast.Name)}
    return names


def _arguments(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _list(names: Any) -> str:
    return ", ".join(sorted(names) if isinstance(names, frozenset) else names)
