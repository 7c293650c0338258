"""What a task must be: all that plan, rules, engine and scripts ask of one. Light: no torch, no pandas, no task.

A task is a class in the `task.py` of its own folder. The modules beside it are loaded when they are needed: `train` and
`report`, and, if the task has them, `prepare`, `export`, `baselines` and `check`. `parts` defines their contracts.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from .code import Source, code_digest, with_imports
from .fields import Section
from .fingerprints import Fingerprints
from .identity import canonical, digest
from .memory import Memory
from .parts import Baselines, Checker, Exporter, Preparer, Reporter, Trainer, load_part, package_of
from .problems import Problems, Refusal
from .request import Artefact, BaseT, DataT, FinetuneT, Request, ScopeT, Unit
from .resumption import Budget, Place, Resumption, stopped_by_none, straight, unchanged
from .spec import BaseSpec, FinetuneSpec, TrainingSpec

BaseSpecT = TypeVar("BaseSpecT", bound=BaseSpec)
FinetuneSpecT = TypeVar("FinetuneSpecT", bound=FinetuneSpec)
Settings = dict[str, Any]  # of an experiment: columns of summary.csv with their values


class Task(ABC, Generic[ScopeT, DataT, BaseT, FinetuneT, BaseSpecT, FinetuneSpecT]):
    """One kind of training, made by the registry. All methods are pure, except that they read files of a user's data.

    Methods for planning report faults to `problems` and continue, so that one run shows all of them; they raise
    nothing. Methods for jobs raise `Refusal` with one line.
    """

    # --- What it is called and made of ---------------------------------------------------------------------------------

    unit_word: str = "unit"  # the word for what one fine-tune is about; its plural adds an s
    recipe: int = 1  # raise it when the meaning of a training changes, never for a comment: it retrains everything
    same_code: Mapping[str, str] = {}  # after a rewrite: today's `code_of` to the earlier one that gives the same bits

    scope_section: type[ScopeT]  # top-level keys of a study besides those of every task
    data_section: type[DataT]
    base_section: type[BaseT]
    finetune_section: type[FinetuneT]
    base_spec_type: type[BaseSpecT]
    finetune_spec_type: type[FinetuneSpecT]
    prepared_spec_type: type[Section] | None = None  # of what `prepare` makes
    baseline_spec_type: type[Section] | None = None  # of what `baselines` measures

    has_blocks: bool = False  # its trainees name the `blocks` of their network, which some run settings need
    foundations: tuple[str, ...] = ()  # keys of the scope that all further checks build on
    own_finetune_fields: tuple[str, ...] = ("mode",)  # they keep their names in a flat job: no base field has them
    flat: Mapping[str, tuple[str, str]] = {}  # flat names of fields: name to (section, field), where they differ
    unit_help: Mapping[str, str] = {}  # what the flat fields of a unit are, for --help

    def __init__(self, name: str):
        self.name = name

    # --- From a study to requests: called by `grid` and `jobs` ---------------------------------------------------------

    def adopted(self, content: dict[str, Any], name: str) -> dict[str, Any] | None:
        """A study made from a file in a format of the task's own users; None if the file has no such format. The only
        method for planning that raises `StudyError`, which reports faults in the file's own terms."""
        return None

    @abstractmethod
    def complete_data(self, data: DataT, key: str, problems: Problems) -> DataT:
        """The data section with its defaults. Faults are reported below `key`."""

    def complete_scope(self, scope: ScopeT, data: DataT, key: str, problems: Problems) -> ScopeT:
        """The scope, completed with what follows from the complete data. Names of faulty keys begin with `key`."""
        return scope

    def units(self, scope: ScopeT, problems: Problems) -> list[Unit]:
        """What the fine-tunes of a grid are about, in a stable order."""
        return [Unit("all")]

    def any_unit(self, scope: ScopeT) -> list[Unit]:
        """Some unit to check settings with, if the study's own units are at fault."""
        return [Unit("all")]

    def unit_of_job(self, scope: ScopeT, values: dict[str, Any], key: str, problems: Problems) -> Unit | None:
        """The unit of one flat job, from the fields that `flat` routes to "unit"; None where a fault was reported."""
        return Unit("all")

    def is_meant(self, request: Request[ScopeT, DataT, BaseT, FinetuneT]) -> bool:
        """Whether a combination of a grid is meant at all. False skips the combination silently."""
        return True

    def check_grid(self, bases: list[BaseT], finetunes: list[FinetuneT], problems: Problems) -> None:
        """Report fine-tunes of a grid that `is_meant` skips on every base: the user would get nothing from them."""
        return

    # --- From a request to specs: called by `planner` ------------------------------------------------------------------

    def check(self, request: Request[ScopeT, DataT, BaseT, FinetuneT], problems: Problems) -> None:
        """Report settings that are each valid but do not fit each other. Data and scope may be faulty or incomplete."""
        return

    def notes(self, request: Request[ScopeT, DataT, BaseT, FinetuneT], base: BaseSpecT) -> list[str]:
        """What the reader of a plan should know about a request, one line per note."""
        return []

    def earlier_stage(
        self, request: Request[ScopeT, DataT, BaseT, FinetuneT], problems: Problems
    ) -> Request[ScopeT, DataT, BaseT, FinetuneT] | None:
        """The stage that a base training starts from, as a request of its own; None where it has none."""
        return None

    @abstractmethod
    def base_spec(
        self,
        request: Request[ScopeT, DataT, BaseT, FinetuneT],
        parent: tuple[BaseSpecT, str] | None,
        fingerprints: Fingerprints,
        problems: Problems,
    ) -> BaseSpecT | None:
        """The base training of a request, resolved; `parent` is the stage before and its hash. None after a fault."""

    @abstractmethod
    def finetune_spec(
        self,
        request: Request[ScopeT, DataT, BaseT, FinetuneT],
        base: BaseSpecT,
        base_hash: str,
        fingerprints: Fingerprints,
    ) -> FinetuneSpecT:
        """The fine-tune of a request, resolved: missing values are inherited; what its mode does not use is None."""

    def normalised(self, spec: TrainingSpec) -> TrainingSpec:
        """The one form of all specs that ask for the same training. Plans name this form, and jobs read it.

        A rule belongs here only if both spellings were shown to give equal weights, and if the spec alone decides: a
        plan does not know how much data there is. `renewed` in `study.spec` applies changes.
        """
        return spec

    def budget(self, spec: BaseSpecT | FinetuneSpecT) -> Budget | None:
        """How long a training lasts; None where nothing is gained by comparing budgets."""
        return None

    def cost(self, base: BaseSpecT) -> float:
        """Relative compute of a base training, enough to weigh trainings of one study."""
        return 1.0

    def memory(
        self, request: Any, base: BaseSpecT, finetune: FinetuneSpecT | None, fingerprints: Fingerprints
    ) -> Memory | None:
        """The memory that a fine-tune needs or, if `finetune` is None, its base training. None stands for 4 GB."""
        return None

    @abstractmethod
    def location(self, data: DataT) -> "Artefact | str":
        """Where trainings find this data: in a folder of the user's own, or in an artefact that is prepared first."""

    def expectations(self, data: DataT) -> dict[str, Any]:
        """What a study says of its data beyond its identity; a training checks it when it reads the data."""
        return {}

    @abstractmethod
    def settings(
        self, request: Request[ScopeT, DataT, BaseT, FinetuneT], base: BaseSpecT, finetune: FinetuneSpecT
    ) -> Settings:
        """The settings of an experiment as columns of summary.csv; a prefix may name them too."""

    def folder_identity(
        self,
        request: Request[ScopeT, DataT, BaseT, FinetuneT],
        base: BaseSpecT,
        finetune: FinetuneSpecT,
        fingerprints: Fingerprints,
    ) -> Any:
        """What the experiments of one setting share over all units. Its short hash ends the name of their folder.

        By default this is the base spec, and the fine-tune spec without its base and data. A task whose specs hold the
        unit leaves those fields out too, or each unit would get a folder of its own.
        """
        return {"base": base, "finetune": finetune.model_copy(update={"base": None, "data": None})}

    def default_name(self, settings: Settings) -> str:
        """The readable part of that folder's name, if the study gives no template."""
        return settings["mode"]

    def baselines(
        self,
        bases: "Iterable[tuple[Request[ScopeT, DataT, BaseT, FinetuneT], BaseSpecT]]",
        settings: list[Settings],
        fingerprints: Fingerprints,
    ) -> Iterator[tuple[int, Section]]:
        """Reference measurements beside the base models of a plan, whose experiments have these settings.

        Yield for each the position in `bases` of the base model that it belongs to, and its spec.
        """
        yield from ()

    def export_folder(
        self, request: Request[ScopeT, DataT, BaseT, FinetuneT], base: BaseSpecT, finetune: FinetuneSpecT | None
    ) -> str | None:
        """The folder into which the model of a request is exported for other programs; None if it is not exported."""
        return None

    # --- Of one training: called by jobs and scripts -------------------------------------------------------------------

    @abstractmethod
    def identity_at(self, folder: str, spec: BaseSpecT | FinetuneSpecT) -> Section:
        """The identity of the data that lies in `folder` now, seen as `spec.data` describes it."""

    def built_by(self, spec: BaseSpecT | FinetuneSpecT, base: BaseSpecT | None) -> tuple[Source, ...]:
        """The code that builds a training's network and decides what it computes, and no other code: by default
        `load_model` of train.py and all that it uses beside it. `base` is the base model of a fine-tune."""
        return with_imports(f"{package_of(type(self))}.train", ("load_model",))

    def code_of(self, spec: BaseSpecT | FinetuneSpecT, base: BaseSpecT | None) -> str:
        """The hash of that code. It is recorded with a model, which is refused after the code has changed."""
        found = code_digest(self.built_by(spec, base))
        return self.same_code.get(found, found)

    def is_renamed_by_code(self, spec: BaseSpecT | FinetuneSpecT, base: BaseSpecT | None) -> bool:
        """Whether code is part of a training's name and has changed: its study then trains it under another name."""
        return False

    def check_data(self, spec: BaseSpecT | FinetuneSpecT, base: BaseSpecT | None, folder: str) -> None:
        """Raise `Refusal` if `folder` holds other data than the spec, or the spec of its base model, names."""
        for one, what in ((spec, f"{folder} changed since it was planned"), (base, _LEARNED.format(folder=folder))):
            found = one and canonical(self.identity_at(folder, one))
            if one and found != canonical(one.data):
                raise Refusal(f"data: {what} ({found} is not {canonical(one.data)}); plan again with the right data")

    def flat_job_of(self, base: BaseSpecT) -> dict[str, Any]:
        """The settings of a base model as fields of a flat job, as far as flat fields can say them."""
        fields = {name: getattr(base, name, None) for name in self.base_section.model_fields}
        return {name: value for name, value in fields.items() if value is not None}

    def misfit(self, base: BaseSpecT, wanted: BaseSpecT, finetune: FinetuneSpecT) -> str | None:
        """Why a base model chosen by hand cannot serve a fine-tune that was described with the base `wanted`."""
        if canonical(base.data) == canonical(wanted.data):
            return None
        return f"learned on {canonical(base.data)}, the flags name {canonical(wanted.data)}; use the data it learned on"

    def about(self, spec: BaseSpecT | FinetuneSpecT) -> str:
        """A training in a few words, for lists."""
        return spec.mode if isinstance(spec, FinetuneSpec) else "base"

    def passes(self, spec: BaseSpecT | FinetuneSpecT, step: int, epochs: float, data: str) -> float | None:
        """Passes over the train set up to a step, after `epochs` whole epochs of the engine; None where unknown."""
        return epochs

    def may_continue(self, spec: BaseSpecT | FinetuneSpecT, other: BaseSpecT | FinetuneSpecT) -> bool:
        """Whether a training may continue from where `other`, which has another hash, ended or stood."""
        mine, theirs = self.budget(spec), self.budget(other)
        if mine is None or theirs is None or type(spec) is not type(other):
            return False
        return mine.is_exact and theirs.is_exact and mine.common == theirs.common and stopped_by_none(spec, other)

    def resumed(self, spec: BaseSpecT | FinetuneSpecT, place: Place, changes: dict[str, int]) -> Resumption:
        """The training that continues from `place` with some fields changed. Raise `Refusal` if that is impossible."""
        if not changes:
            return unchanged(spec, place)
        budget = self.budget(spec)
        told = ", ".join(f"{name}: {value}" for name, value in changes.items())
        if budget is None:
            raise Refusal(
                f"{told}: task {self.name} has no budget that could be another; train it anew in a study of its own"
            )
        if set(changes) != {budget.field} or not budget.is_exact:
            raise Refusal(f"{told}: changes what is trained, not only how long; train it anew in a study of its own")
        done = budget.done(place)
        if changes[budget.field] <= done:
            raise Refusal(f"{budget.field}: {changes[budget.field]} is not beyond {done}, where {place.path} stands")
        longer = spec.model_copy(update=changes)
        return Resumption(longer, digest(longer), straight(spec, longer, budget.field, budget.counts))

    # --- The heavy side, each loaded when it is asked for --------------------------------------------------------------

    def trainer(self) -> Trainer:
        """The module that trains, measures and rebuilds models."""
        return load_part(self, "train")

    def preparer(self) -> Preparer:
        """The module that prepares, once, what the task's trainings share."""
        return load_part(self, "prepare")

    def reporter(self) -> Reporter:
        """The module that shows the task's results. May load pandas."""
        return load_part(self, "report")

    def exporter(self) -> Exporter | None:
        """The module that exports models for other programs; None if the task has none."""
        return load_part(self, "export", is_optional=True)

    def baseline_methods(self) -> Baselines:
        """The module that measures what the task's models are compared with."""
        return load_part(self, "baselines")

    def checker(self) -> Checker | None:
        """The module that finds, before the first job, what the jobs would refuse; None if the task has none."""
        return load_part(self, "check", is_optional=True)


_LEARNED = "the base model learned on other data than {folder} holds"
