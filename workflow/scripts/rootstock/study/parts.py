"""The heavy modules of a task and what each must offer.

They load torch, pandas and the like, so each is imported only when it is needed.
"""

import gc
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from .fields import Section
from .run import Run
from .spec import BaseSpec

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch.nn import Module

    from .plan import Plan


@dataclass(frozen=True)
class Start:
    """A base model, verified, whose weights a training starts from."""

    hash: str
    spec: BaseSpec
    content: dict[str, Any]  # what its model file holds


@dataclass(frozen=True)
class Inputs:
    """What a training reads besides its spec."""

    folder: str  # of the data that the spec names
    expect: Mapping[str, Any] = field(default_factory=dict)  # see `Task.expectations`
    start: Start | None = None  # of a base training: the stage before it; of a fine-tune: its base model

    @property
    def base(self) -> Start:
        """The base model of a spec that names one."""
        assert self.start is not None
        return self.start


@dataclass(frozen=True)
class Checked:
    """What a check finds before the first job."""

    faults: list[str]  # one line each, as the jobs would report them
    table: list[str]  # lines that show what the trainings will read


class Trainer(Protocol):
    """`train.py`: called by a job that holds the lock of its training, in each of its processes.

    `context` is an `engine.loop.Context`. The methods that take it return an `engine.loop.Outcome`. Each method may
    raise `Refusal`.
    """

    def train_base(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """Train a base model. Its metrics are those on the data that chose its epoch."""

    def train_finetune(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """Fine-tune, from `inputs.start` or from scratch. The metrics are those before and after."""

    def measure_base(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """Measure the base model as it is, in the same way as fine-tunes. This is the mode base_only."""

    def load_model(self, content: dict[str, Any], where: str) -> "Module":
        """Rebuild the network of a model file or checkpoint from its `content` alone; `where` names it in messages."""
        ...


class Preparer(Protocol):
    """`prepare.py`: called by a job that holds the lock of the folder, if the folder is not complete yet."""

    def prepare(self, spec: Any, folder: Path, run: Run, say: Callable[[str], None]) -> None:
        """Fill `folder` with what `spec` describes. Write `manifest.json` last, with the spec under "spec"."""


class Reporter(Protocol):
    """`report.py`: called once, by summarise.py, when all experiments of a study are published."""

    def result_columns(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """The result columns of one experiment from its metrics: numbers, or None."""
        ...

    def render(self, summary: "DataFrame", baselines: list[dict[str, Any]]) -> str:
        """The table for a terminal, from one row per experiment and the rows of all baselines."""
        ...

    def draw(self, summary: "DataFrame", path: Path) -> None:
        """The figure, as SVG."""


class Explainer(Protocol):
    """Optional functions of `report.py`, for the page of a study. See `results.sections`."""

    def question(self, summary: "DataFrame") -> Any:
        """What the study asks of its experiments, a `results.question.Question`; None if it compares nothing."""

    def sections(self, material: Any) -> list[Any]:
        """The task's sections for a `results.sections.Material`, in order: a list of `results.sections.Section`."""
        ...

    def methods(self, plan: "Plan") -> list[str]:
        """The task's own sentences for the methods section of a paper. Every number comes from the specs."""
        ...


class Exporter(Protocol):
    """`export.py`: called by export_model.py; the caller writes `export.json` when it returns."""

    def export(
        self,
        model: BinaryIO,
        metadata: dict[str, Any],
        data: str,
        study: dict[str, Any],
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """Write `model` into `folder`. The store keeps `metadata` beside it; `data` is the folder it learned from."""


class Baselines(Protocol):
    """`baselines.py`: called by measure_baseline.py, once per spec."""

    def measure_baseline(self, spec: Any, folder: str) -> list[dict[str, Any]]:
        """Rows of plain values, for `Reporter.render`."""
        ...


class Checker(Protocol):
    """`check.py`: called by generate_jobs.py --check, which trains nothing."""

    def check(self, plan: "Plan", missing: Collection[str]) -> Checked:
        """Find what the jobs of a plan would refuse. The workflow has yet to make the folders `missing`.

        Call the very functions that the jobs call, because a second copy of a check drifts away from the first.
        """
        ...


PARTS: dict[str, type] = {
    "train": Trainer,
    "prepare": Preparer,
    "report": Reporter,
    "export": Exporter,
    "baselines": Baselines,
    "check": Checker,
}
OPTIONAL: dict[str, type] = {"report": Explainer}  # functions that a module may have besides


def load_part(task: object, part: str, is_optional: bool = False) -> Any:
    """Import and return a module beside the task's own; None if `is_optional` and there is no such module.

    The garbage collector is off during the import and never scans what was loaded. What torch and the like load lives
    as long as the process, and scanning it takes a tenth of a short job's time.
    """
    module = f"{package_of(type(task))}.{part}"
    if module in sys.modules:
        return sys.modules[module]
    if is_optional and find_spec(module) is None:
        return None
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def explainer_of(reporter: Reporter) -> Explainer:
    """The optional functions of a task's `report.py`; a missing one is replaced by one that gives nothing."""
    nothing: dict[str, Any] = {"question": lambda _: None, "sections": lambda _: [], "methods": lambda _: []}
    explainer: Any = SimpleNamespace(**{name: getattr(reporter, name, none) for name, none in nothing.items()})
    return explainer


def package_of(task: type) -> str:
    """The package that a task's module lies in; empty if there is none."""
    return task.__module__.rpartition(".")[0]


def section_of(task: Any, name: str) -> type[Section]:
    """The section of a task by its key in a study: scope, data, base or finetune."""
    return {
        "scope": task.scope_section,
        "data": task.data_section,
        "base": task.base_section,
        "finetune": task.finetune_section,
    }[name]
