"""Turn plain values into typed sections, and report every fault under the study's own keys."""

from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .fields import S, Section
from .problems import Problems

Swept = dict[str, list[Any]]
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def read_grids(section: type[Section], values: Any, key: str, problems: Problems) -> list[Swept]:
    """One grid, or a list of grids whose union is meant: each a section of scalars and sweeps."""
    if not isinstance(values, list):
        return [read_swept(section, values, key, problems)]
    if not values:
        problems.add(key, values, "is an empty list of grids; give at least one")
    return [read_swept(section, grid, f"{key}[{index}]", problems) for index, grid in enumerate(values)]


def read_swept(section: type[Section], values: Any, key: str, problems: Problems) -> Swept:
    """Each given field as the list of values it takes: one for a scalar, several for a sweep."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        problems.add(key, values, f"needs keys and values, such as {next(iter(section.model_fields))}: …")
        return {}
    swept: Swept = {}
    for name, value in values.items():
        if name not in section.model_fields:
            problems.unknown_key(f"{key}.{name}", section.model_fields)
            continue
        choices = value if _is_sweep(section, name, value) else [value]
        if not choices:
            problems.add(f"{key}.{name}", value, "is an empty sweep; give at least one value or leave the key out")
        read = [read_value(section, name, choice, f"{key}.{name}", problems) for choice in choices]
        good_values = [value for value, good in read if good]
        if good_values:  # with a fault the plan continues with what is left, to find the other faults too
            swept[name] = good_values
    return swept


def read_value(section: type[Section], name: str, value: Any, key: str, problems: Problems) -> tuple[Any, bool]:
    """One value in the type of its field, and whether it fits."""
    try:
        return adapter(section, name).validate_python(value), True
    except ValidationError as error:
        report(error, key, value, problems)
        return None, False


def read_section(section: type[S], values: Any, key: str, problems: Problems) -> S:
    """A whole section of scalars; a field with a fault keeps its default, and the fault is reported."""
    good = {}
    for name, value in (values or {}).items():
        path = f"{key}.{name}" if key else str(name)
        if name not in section.model_fields:
            problems.unknown_key(path, section.model_fields)
            continue
        read, fits = read_value(section, name, value, path, problems)
        if fits:
            good[name] = read
    return section(**good)


@cache
def adapter(section: type[Section], name: str) -> TypeAdapter:
    return TypeAdapter(section.model_fields[name].rebuild_annotation(), config=None)


def json_schema(section: type[Section], name: str) -> dict[str, Any]:
    """The JSON schema of one field."""
    return _with_bounds(adapter(section, name).json_schema())


@cache
def is_list_field(section: type[Section], name: str) -> bool:
    """Whether a list is one value of this field rather than a sweep over it."""
    return _admits_list(section.model_fields[name].annotation)


def words_of(section: type[Section], name: str) -> set[str]:
    """The literal words that a field takes, beside any other values."""
    return set(_literals(section.model_fields[name].annotation))


def report(error: ValidationError, key: str, value: Any, problems: Problems) -> None:
    """Report in one line all that a value could have been: `base.lr: "fast" needs a number above 0`."""
    literals: list[str] = []
    phrases: list[str] = []
    faults = error.errors()
    if any(fault["type"] != "too_short" for fault in faults):  # it counts only valid items
        faults = [fault for fault in faults if fault["type"] != "too_short"]
    for fault in faults:
        if fault["type"] == "literal_error":
            literals += [word.strip("'") for word in fault.get("ctx", {})["expected"].replace(" or ", ", ").split(", ")]
        elif fault["type"] != "none_required":
            phrases.append(_phrase(fault))
    if literals and isinstance(value, str) and not any("whole number" in p for p in phrases):
        problems.unknown(key, value, literals)
    else:
        problems.add(key, value, "needs " + " or ".join(dict.fromkeys([*literals, *phrases])))


def _phrase(fault: ErrorDetails) -> str:
    bounds = fault.get("ctx", {})
    match fault["type"]:
        case "phrase":
            return fault["msg"]
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number"
        case "int_parsing_size":
            return "a whole number below 2^63"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "greater_than":
            return f"a number above {bounds['gt']:g}"
        case "greater_than_equal":
            return f"a number of at least {bounds['ge']:g}"
        case "less_than_equal":
            return f"a number of at most {bounds['le']:g}"
        case "less_than":
            return f"a number below {bounds['lt']:g}"
        case "tuple_type" | "list_type":
            return "a list"
        case "string_type":
            return "text"
        case "string_too_short":
            return "text that is not empty"
        case "dict_type":
            return "keys and values"
        case "missing":
            return "more values"
        case "too_long":
            return f"at most {bounds['max_length']} values"
        case "too_short":
            return f"at least {bounds['min_length']} values"
        case _:
            return fault["msg"][0].lower() + fault["msg"][1:]


def _with_bounds(schema: Any) -> Any:
    """A schema with JSON Schema's names for bounds. Pydantic leaves its own on numbers that have a validator before
    their type."""
    if isinstance(schema, dict):
        return {BOUNDS.get(key, key): _with_bounds(value) for key, value in schema.items()}
    return [_with_bounds(item) for item in schema] if isinstance(schema, list) else schema


def _is_sweep(section: type[Section], name: str, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    return not is_list_field(section, name) or any(isinstance(item, list) for item in value)


def _admits_list(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return origin in (tuple, list) or any(_admits_list(a) for a in get_args(annotation) if a is not Ellipsis)


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for a in get_args(annotation) if get_origin(annotation) is not tuple for word in _literals(a)]
