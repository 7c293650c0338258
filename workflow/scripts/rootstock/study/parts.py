"""The heavy modules of a task and what each must offer. They load torch, pandas and the like, so each waits until asked for."""

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
    content: dict[str, Any]  # of its model file


@dataclass(frozen=True)
class Inputs:
    """What a training reads beside its spec."""

    folder: str  # of the data; it is what the spec names
    expect: Mapping[str, Any] = field(default_factory=dict)  # see `Task.expectations`
    start: Start | None = None  # the stage before a base training; the base model of a fine-tune

    @property
    def base(self) -> Start:
        """The base model, where the spec names one."""
        assert self.start is not None
        return self.start


@dataclass(frozen=True)
class Checked:
    """What was found before the first job."""

    faults: list[str]  # a line each, as the jobs would tell them
    table: list[str]  # lines that show what the trainings will read


class Trainer(Protocol):
    """`train.py`: called by a job that holds the lock of its training; in several processes by each of them.

    `context` is an `engine.loop.Context`, what comes back an `engine.loop.Outcome`. Each may raise `Refusal`.
    """

    def train_base(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """Train a base model; metrics of the data that chose its epoch."""

    def train_finetune(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """Fine-tune, from `inputs.start` or from scratch; metrics before and after."""

    def measure_base(self, spec: Any, inputs: Inputs, context: Any) -> Any:
        """What a fine-tune of mode base_only is: the base model as it is, measured as fine-tunes are."""

    def load_model(self, content: dict[str, Any], where: str) -> "Module":
        """The network of a model file or checkpoint, rebuilt from what the file itself holds; `where` names it in messages."""
        ...


class Preparer(Protocol):
    """`prepare.py`: called by a job that holds the lock of the folder, where that is not whole yet."""

    def prepare(self, spec: Any, folder: Path, run: Run, say: Callable[[str], None]) -> None:
        """Fill `folder` with what `spec` describes, `manifest.json` last: it holds the spec under "spec"."""


class Reporter(Protocol):
    """`report.py`: called once, by summarise.py, when all experiments of a study are published."""

    def result_columns(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """The result columns of one experiment from its metrics: numbers, or None."""
        ...

    def render(self, summary: "DataFrame", baselines: list[dict[str, Any]]) -> str:
        """The table for a terminal, from a row an experiment and the rows of all baselines."""
        ...

    def draw(self, summary: "DataFrame", path: Path) -> None:
        """The figure, as SVG."""


class Explainer(Protocol):
    """More of `report.py`, each function where a task has it: what the page of a study asks. See `results.sections`."""

    def question(self, summary: "DataFrame") -> Any:
        """What the study asks of its experiments, a `results.question.Question`; None where it compares nothing."""

    def sections(self, material: Any) -> list[Any]:
        """What the task shows of a `results.sections.Material`, in its order: a list of `results.sections.Section`."""
        ...

    def methods(self, plan: "Plan") -> list[str]:
        """Sentences of its own for the methods of a paper, every number from the specs."""
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
        """Write `model` into `folder`; `metadata` is what the store keeps beside it, `data` the folder it learned from."""


class Baselines(Protocol):
    """`baselines.py`: called by measure_baseline.py, once a spec."""

    def measure_baseline(self, spec: Any, folder: str) -> list[dict[str, Any]]:
        """Rows of plain values, for `Reporter.render`."""
        ...


class Checker(Protocol):
    """`check.py`: called by generate_jobs.py --check, which trains nothing."""

    def check(self, plan: "Plan", missing: Collection[str]) -> Checked:
        """What the jobs of a plan would refuse. The folders `missing` are made by the workflow and are not there yet.

        Refuse by the very functions that the jobs call: a second copy of a check comes to say something else.
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
    """A module beside a task's own. While it is loaded the garbage collector rests, and what it brought is never looked at
    again: what torch and the like load lives as long as the process, and going over it takes a tenth of a short job's time.
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
    """What a task's `report.py` says to the page; where it has no such function, nothing."""
    nothing: dict[str, Any] = {"question": lambda _: None, "sections": lambda _: [], "methods": lambda _: []}
    explainer: Any = SimpleNamespace(**{name: getattr(reporter, name, none) for name, none in nothing.items()})
    return explainer


def package_of(task: type) -> str:
    """The folder of a task as a package; empty where its module lies in none."""
    return task.__module__.rpartition(".")[0]


def section_of(task: Any, name: str) -> type[Section]:
    """The section of a task by its key in a study: scope, data, base or finetune."""
    return {
        "scope": task.scope_section,
        "data": task.data_section,
        "base": task.base_section,
        "finetune": task.finetune_section,
    }[name]
