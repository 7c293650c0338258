"""Read YAML and JSON files as plain values. Reject malformed text, with its line where that is known, and duplicate
keys."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from .fields import is_text
from .problems import StudyError, show

OLD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")

TEMPLATE = "__use_yte__"  # Snakemake's own reader hands such a file to the template engine yte
DEEPEST = 50  # levels of a study
MOST_VALUES = 2_000_000  # of a study or a job list


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number (YAML 1.2) and refuses a key given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict:
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue  # <<: *anchor
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """A number; reject one that YAML versions read differently. In YAML 1.1, as in PyYAML, 010 is 8 and 1:30 is 90."""
    if OLD_NUMBER.fullmatch(node.value):
        meant = f"{node.value} means another number in other versions of YAML; write it in plain digits, or as text in quotes"
        raise yaml.constructor.ConstructorError(None, None, meant, node.start_mark)
    kind = "int" if node.tag == "tag:yaml.org,2002:int" else "float"
    return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(loader, node)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """A date as plain text, as in YAML 1.2, because no setting is a date."""
    return loader.construct_yaml_str(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def read_file(path: str | Path) -> Any:
    """Return the content of a .yaml, .yml or .json file. Raise `StudyError`, naming the file, if it is malformed."""
    path = Path(path)
    text = text_of(path)
    content = _parse_json(text, path) if path.suffix == ".json" else _parse_yaml(text, path)
    if isinstance(content, dict) and TEMPLATE in content:
        fix = "Snakemake would run Python that such a file holds; remove it and what it renders"
        raise StudyError([f"{path}: {TEMPLATE}: is no key of a study; {fix}"])
    if fault := _fault(content):
        raise StudyError([f"{path}: {fault}"])
    return content


def text_of(path: Path) -> str:
    """Return the text of a file. Raise `StudyError` if it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError([f"{path}: no such file; check the path (it is taken from the project's folder)"]) from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the path
        raise StudyError([f"{show(str(path))[1:-1]}: cannot be read as UTF-8 text ({error}); check the file"]) from None


def _fault(content: Any) -> str | None:
    """Why the content cannot be used, if so. YAML's anchors can make a short file long, deep or endless."""
    left, count = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > DEEPEST or count > MOST_VALUES:
            return f"nests deeper than {DEEPEST} levels, or holds more than {MOST_VALUES} values; write a smaller file"
        if not isinstance(value, str | dict | list | int | float | None):
            return f"{value!r} is of a kind that no setting has ({type(value).__name__}); write text, numbers or lists"
        if isinstance(value, str) and not is_text(value):
            return f"{value!r} is no text; write whole characters"
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        left += [(one, depth + 1) for one in inner]
    return None


def _parse_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise StudyError([f"{path}:{mark.line + 1 if mark else 1}: malformed YAML: {error.problem}"]) from None
    except Exception as error:  # a value that does not fit its tag can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError([f"{path}: malformed YAML: {reason}"]) from None


def _parse_json(text: str, path: Path) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict:
        keys = [key for key, _ in items]
        for key in set(keys):
            if keys.count(key) > 1:
                raise StudyError([f"{path}: malformed JSON: key {key!r} stands twice in one object"])
        return dict(items)

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise StudyError([f"{path}:{error.lineno}: malformed JSON: {error.msg}"]) from None
    except (RecursionError, ValueError) as error:
        raise StudyError([f"{path}: malformed JSON: {error}"]) from None
