"""One training as it was asked for, and what a task makes of it: the words that plan and tasks share."""

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
    """What one fine-tune is about: its name, in any script, and the values that it stands for. Its folder is `paths.unit_folder`."""

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
    is_founded: bool = (
        True  # else its data or scope is at fault, and only what is wrong with its settings beside that is asked
    )

    @property
    def wish(self) -> FinetuneT:
        """The fine-tune, where it is known that there is one."""
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
    on_gpu: bool = False  # whether a GPU, where trainings have one, makes it faster

    @property
    def json(self) -> str:
        return with_whereabouts(self.spec)

    @property
    def need_names(self) -> tuple[str, ...]:
        return tuple(needed.name for needed in self.needs)


@dataclass(frozen=True)
class Export:
    """A trained model in the form that others use: a folder, complete when its `export.json` exists."""

    folder: str
    hash: str
    data: str  # the data folder of its training
    published: str  # the file that says that the training is done
    mem_mb: int  # of memory, that its training asks for: no export needs more
