"""The plan, which the rules query: every base model, every experiment, and what they share."""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from . import paths
from .config import Study
from .fields import Section
from .identity import short_digest, with_whereabouts
from .jobs import BASE_JOB_MARK, flat_job
from .memory import UNKNOWN
from .request import Artefact, Export, Request
from .spec import BaseSpec, FinetuneSpec

SpecT = TypeVar("SpecT", bound=Section)


@dataclass(frozen=True)
class Planned(Generic[SpecT]):
    """A spec, the hash that names it, and where its data lies. An instance of this class itself is a baseline."""

    hash: str
    spec: SpecT
    data: str  # its folder: a user's own, or prepared/<name>
    artefact: Artefact | None
    mem_mb: int = field(default=UNKNOWN, kw_only=True)  # memory that its job requests at its first attempt

    @property
    def json(self) -> str:
        return with_whereabouts(self.spec)

    @property
    def prepared(self) -> str | None:
        """Name of the artefact that holds its data; None for a user's own folder."""
        return self.artefact.name if self.artefact else None


@dataclass(frozen=True)
class BaseTraining(Planned[BaseSpec]):
    """One base model, whoever asks for it."""

    asked_by: tuple[Request, ...] = ()
    continues: str | None = None  # hash of a shorter training that it continues, with the same result
    expect: str = "{}"  # what the study says of its data beyond its identity, as JSON

    @property
    def parent(self) -> str | None:
        """Hash of the stage before it."""
        return self.spec.parent

    @property
    def own_class(self) -> str | None:
        """The user's own class of its network, if it has one."""
        return self.spec.own_class


@dataclass(frozen=True)
class Experiment(Planned[FinetuneSpec]):
    """One fine-tune and the folder it is published in."""

    prefix: str
    unit: str
    settings: dict[str, Any] = field(default_factory=dict)
    asked_by: tuple[Request, ...] = ()
    expect: str = "{}"

    @property
    def base(self) -> str | None:
        """Hash of its base model."""
        return self.spec.base

    @property
    def path(self) -> str:
        return paths.experiment(self.prefix, self.unit)


@dataclass
class Plan:
    """All that a study trains, each training once."""

    study: Study
    bases: dict[str, BaseTraining] = field(default_factory=dict)
    experiments: dict[tuple[str, str], Experiment] = field(default_factory=dict)
    baselines: dict[str, Planned[Section]] = field(default_factory=dict)
    exports: dict[str, Export] = field(default_factory=dict)
    artefacts: dict[str, Artefact] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    content: str = "{}"  # the study as its user wrote it, as JSON

    @property
    def study_file(self) -> str:
        """Where a run keeps the study for its jobs, named by content: a changed study is another file."""
        return paths.STUDY_FILE.format(digest=short_digest(self.content))

    @property
    def reaches(self) -> set[str]:
        """The hash of every training of this plan: what the store must keep while the study is wanted."""
        return {*self.bases, *(experiment.hash for experiment in self.experiments.values())}

    @property
    def lone_bases(self) -> list[str]:
        """Base models that no experiment of this plan starts from."""
        used = {experiment.base for experiment in self.experiments.values()}
        used |= {training.parent for training in self.bases.values()}
        return [name for name in self.bases if name not in used]

    def stages_of(self, base: str) -> list[str]:
        """A base model and the stages before it, by hash, the last one first."""
        before = self.bases[base].parent
        return [base] + (self.stages_of(before) if before else [])

    @property
    def fine_tunes(self) -> list[Experiment]:
        """Experiments that train; the others only measure a base model."""
        return [experiment for experiment in self.experiments.values() if experiment.spec.trains]


def job_lists(plan: Plan) -> tuple[list[dict], list[dict]]:
    """The plan as two flat job lists, of base trainings and of experiments, that read back to the same plan."""
    task = plan.study.task
    bases = [
        flat_job(training.asked_by[0], task, f"base_{name}") | {"mode": "base_only", BASE_JOB_MARK: name}
        for name, training in plan.bases.items()
    ]
    finetunes = []
    for experiment in plan.experiments.values():
        job = flat_job(experiment.asked_by[0], task, experiment.prefix.rpartition("_")[0])
        finetunes.append(job | ({"base_model_hash": experiment.base} if experiment.base else {}))
    return bases, finetunes
