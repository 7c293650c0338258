"""One training as it was asked for, and what a task makes of it: the types that plan and tasks share."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .fields import Section
from .identity import with_whereabouts

ScopeT = TypeVar("ScopeT", bound=Section)
DataT = TypeVar("DataT", bound=Section)
BaseT = TypeVar("BaseT", bound=Section)
FinetuneT = TypeVar("FinetuneT", bound=Section)


@dataclass(frozen=True)
class Unit:
    """What one fine-tune is about: its name, in any script, and the values that the name stands for.

    `paths.unit_folder` gives its folder.
    """

    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request(Generic[ScopeT, DataT, BaseT, FinetuneT]):
    """Validated settings of one base training and, unless `finetune` is None, of one fine-tune on it."""

    key: str
    scope: ScopeT
    data: DataT
    base: BaseT
    finetune: FinetuneT | None
    unit: Unit
    prefix: str | None = None
    is_founded: bool = True  # False: its data or scope is at fault, so only its other settings are checked

    @property
    def wish(self) -> FinetuneT:
        """The fine-tune of a request that has one."""
        assert self.finetune is not None
        return self.finetune


@dataclass(frozen=True)
class Artefact:
    """Something prepared once and shared: `prepared/<name>/`, complete when its manifest exists.

    What it is made from (`needs`) is prepared before it and lies beside it.
    """

    name: str
    spec: Section
    needs: tuple["Artefact", ...] = ()
    on_gpu: bool = False  # whether a GPU makes it faster, if trainings have one

    @property
    def json(self) -> str:
        return with_whereabouts(self.spec)

    @property
    def need_names(self) -> tuple[str, ...]:
        return tuple(needed.name for needed in self.needs)


@dataclass(frozen=True)
class Export:
    """A trained model in a format for other programs: a folder, complete when its `export.json` exists."""

    folder: str
    hash: str
    data: str  # the data folder of its training
    published: str  # the file that marks the training as done
    mem_mb: int  # memory that its training requests: no export needs more
