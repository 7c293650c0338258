"""Model presets: an architecture of `models.py` and every argument of its constructor. Adding a model is a line here."""

import ast
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...study.code import Source, code_digest, tree_of, with_imports
from ...study.fields import Count
from ...study.own import is_own_path
from ...study.problems import Problems, Refusal, show
from ...study.validate import report
from .settings import OVERRIDES, Base
from .specs import Model

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "test": (
        "ConvBlocks",
        {"base_channels": 8, "num_blocks": 4, "use_dilation": False, "use_residual": False, "dropout": 0.0},
    ),
    "medium": ("ResidualStack", {"dropout": 0.4}),
    "pooled": ("PooledConvNet", {"base_channels": 64, "num_blocks": 5, "downsample": 4, "dropout": 0.3}),
}

PRESET_CLASSES = tuple(architecture for architecture, _ in PRESETS.values())

SAME_CODE = {  # present code to earlier code of recipe 2 that computes the same in another order
    "cd725490167b5bdb": "8105b01905472d60",  # ConvBlocks
    "b3caa5eb627b35d8": "4bd36a11bfef6e68",  # PooledConvNet
}
MODELS = Path(__file__).with_name("models.py")
WITHOUT_BATCH_NORM = ("ConvBlocks", "PooledConvNet")


def sources_of(model: Model) -> tuple[Source, ...]:
    """The code of an architecture and of `Standardised`; for a user's own class also all that it imports beside it."""
    module, _, own = model.architecture.partition(":")
    if own:
        return (Source(MODELS, ("Standardised",)), *with_imports(module))
    return (Source(MODELS, ("Standardised", model.architecture)),)


def source_now(model: Model) -> str | None:
    """The hash of the present code of a user's own class, which is part of a model's name; None for built-in ones."""
    module, _, own = model.architecture.partition(":")
    return code_digest(with_imports(module)) if own else None


def require_source(model: Model) -> None:
    """Raise `Refusal` if a model names no class of a user's own, has no hash of its code, or that of other code."""
    if not is_own_path(model.architecture):
        raise Refusal(
            f"model: {show(model.architecture)} is none of {', '.join(PRESET_CLASSES)}, nor package.module:Class"
        )
    if model.source is None:
        raise Refusal(
            f"model: {model.architecture} comes without the hash of its code (source), so nobody knows which is meant"
        )
    found = source_now(model)
    if found != model.source:
        raise Refusal(
            f"model: {model.architecture} is of other code ({model.source}) than is here now ({found}); plan again"
        )


def has_batch_norm(model: Model) -> bool:
    """Whether an architecture may hold BatchNorm layers; for a user's own class this is assumed."""
    return model.architecture not in WITHOUT_BATCH_NORM


def resolve_model(base: Base, own: dict[str, dict], problems: Problems) -> Model | None:
    """The architecture that `base.model` names, with all its settings; None if a fault was reported."""
    before = len(problems.lines)
    given = {name: getattr(base, name) for name in OVERRIDES if getattr(base, name) is not None}
    name = _preset_of(base.model)
    if base.model in own:
        model = _own_preset(base.model, own[base.model], problems)
    elif name in PRESETS:
        model = Model(architecture=PRESETS[name][0], settings=PRESETS[name][1])
    elif ":" in name:
        model = _own_class("base.model", name, given, problems)
    else:
        problems.unknown("base.model", base.model, [*PRESETS, *own, "package.module:Class"])
        return None
    if model is None or len(problems.lines) > before:
        return None
    overrides = {name: value for name, value in given.items() if name in model.settings}
    return model.model_copy(update={"settings": model.settings | overrides})


def check_presets(own: dict[str, dict], problems: Problems) -> None:
    """Report faults of the user's own presets, including those that no base uses yet."""
    for name, entry in own.items():
        _own_preset(name, entry, problems)


def _own_preset(name: str, entry: dict, problems: Problems) -> Model | None:
    key = f"models.{name}"
    if "preset" not in entry and _preset_of(str(entry.get("class"))) in PRESETS:
        entry = {"preset": _preset_of(entry["class"])} | {k: v for k, v in entry.items() if k != "class"}
    settings = {k: v for k, v in entry.items() if k not in ("preset", "class")}
    if "class" in entry and "preset" not in entry:
        return _own_class(f"{key}.class", str(entry["class"]), settings, problems)
    if "preset" not in entry or "class" in entry:
        problems.add(key, entry, f"needs one of preset ({', '.join(PRESETS)}) and class (package.module:Class)")
        return None
    if entry["preset"] not in PRESETS:
        problems.unknown(f"{key}.preset", entry["preset"], PRESETS)
        return None
    architecture, defaults = PRESETS[entry["preset"]]
    for setting in settings:
        if setting not in defaults:
            problems.unknown_key(f"{key}.{setting}", defaults)
    typed = {k: _typed(f"{key}.{k}", v, defaults[k], problems) for k, v in settings.items() if k in defaults}
    return Model(architecture=architecture, settings=defaults | typed)


def _preset_of(model: str) -> str:
    """The preset of a built-in class that is named by its path; any other name unchanged."""
    module, _, name = model.partition(":")
    ours = {architecture: preset for preset, (architecture, _) in PRESETS.items()}
    return ours.get(name, model) if module == f"{__package__}.models" else model


def _typed(key: str, value: Any, default: Any, problems: Problems) -> Any:
    """`value` as the study's own field of that name allows it, else as a count; the default if a fault was reported."""
    name = key.rpartition(".")[2]
    kind: Any = Base.model_fields[name].rebuild_annotation() if name in OVERRIDES else Count
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        report(error, key, value, problems)
        return default


def _own_class(key: str, path: str, settings: dict, problems: Problems) -> Model | None:
    """A user's class, found without importing it: its file and those beside it that it imports are read, to find the
    class and to hash the code."""
    module, _, name = path.partition(":")
    try:
        sources = with_imports(module)
        source, tree = code_digest(sources), tree_of(sources[0].file)
    except Refusal as reason:
        problems.add(key, path, str(reason))
        return None
    if not any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        problems.add(key, path, f"{sources[0].file.name} defines no class {name!r}; check the spelling")
        return None
    return Model(architecture=path, settings=settings, source=source)
