"""Text to plain values: YAML and JSON files, with the line of what is malformed and of a key that stands twice."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from .problems import StudyError

OLD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


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
    """A number that all readers of YAML agree on: in YAML 1.1, which PyYAML reads, 010 is eight and 1:30 is ninety."""
    if OLD_NUMBER.fullmatch(node.value):
        meant = f"{node.value} means another number in other versions of YAML; write it in plain digits, or as text in quotes"
        raise yaml.constructor.ConstructorError(None, None, meant, node.start_mark)
    kind = "int" if node.tag == "tag:yaml.org,2002:int" else "float"
    return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def read_file(path: str | Path) -> Any:
    """The content of a .yaml, .yml or .json file; `StudyError` names file and line where it is malformed."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError([f"{path}: no such file; check the path (it is taken from the project's folder)"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError([f"{path}: cannot be read as UTF-8 text ({error}); check the file"]) from None
    return _parse_json(text, path) if path.suffix == ".json" else _parse_yaml(text, path)


def _parse_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise StudyError([f"{path}:{mark.line + 1 if mark else 1}: malformed YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError([f"{path}: malformed YAML: {str(error).splitlines()[0]}"]) from None


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
