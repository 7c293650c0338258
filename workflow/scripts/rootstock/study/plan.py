"""The plan: every base model, every experiment, and who shares what. A pure function of the study and the data."""

import string
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from . import paths
from .config import Study
from .fields import Section
from .fingerprints import Fingerprints
from .grid import requests
from .identity import canonical, digest, short_digest
from .jobs import BASE_JOB_MARK, flat_job, ignored_fields, readable
from .problems import Problems, nearest
from .request import Artefact, Export, Request

FOUNDATIONS = ("data", "participants", "jobs:")


@dataclass(frozen=True)
class Training:
    """One training: its spec as canonical JSON, the hash that names it, and where its data lies."""

    hash: str
    spec: Section
    data: str  # folder of windows: a user's own, or prepared/<name>
    artefact: Artefact | None
    asked_by: tuple[Request, ...] = ()
    parent: str | None = None  # the stage whose weights it starts from
    continues: str | None = None  # a shorter training that it goes on from, to the same result as without

    expect: str = "{}"  # what the study says of its data beyond its identity, as JSON

    @property
    def json(self) -> str:
        return canonical(self.spec)


@dataclass(frozen=True)
class Experiment(Training):
    """One fine-tune and the folder it is published in."""

    base: str | None = None
    prefix: str = ""
    unit: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return paths.experiment(self.prefix, self.unit)


@dataclass
class Plan:
    """All that a study trains, each training once."""

    study: Study
    bases: dict[str, Training] = field(default_factory=dict)
    experiments: dict[tuple[str, str], Experiment] = field(default_factory=dict)
    baselines: dict[str, Training] = field(default_factory=dict)
    exports: dict[str, Export] = field(default_factory=dict)
    artefacts: dict[str, Artefact] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    source: str = "{}"  # the study as JSON

    @property
    def source_file(self) -> str:
        """Where a run keeps the study for its jobs, named by content: a changed study is another file."""
        return paths.SOURCE.format(digest=short_digest(self.source))

    @property
    def reaches(self) -> set[str]:
        """Every training of this plan, by hash: what the store must not lose while the study is wanted."""
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
        return [e for e in self.experiments.values() if e.settings.get("mode") != "base_only"]


def make_plan(study: Study, problems: Problems, fingerprints: Fingerprints | None = None) -> Plan:
    """Resolve every request of a study. Requests with equal specs become one training."""
    fingerprints = fingerprints or Fingerprints()
    if any(line.startswith(FOUNDATIONS) for line in problems.lines):
        problems.raise_if_any()  # who and what is unknown: anything found beyond would only follow from that
    asked = requests(study, problems)
    planner = _Planner(study, problems, fingerprints)
    for request in asked:
        planner.add(request)
    problems.raise_if_any()
    planner.add_baselines()
    fingerprints.save()
    return planner.finish()


class _Planner:
    """Grows a plan request by request; base specs are resolved once for each distinct wish."""

    def __init__(self, study: Study, problems: Problems, fingerprints: Fingerprints):
        self.study, self.task = study, study.planner
        self.problems, self.fingerprints = problems, fingerprints
        self.plan = Plan(study)
        self.resolved: dict[tuple, tuple[tuple[Section, str] | None, list[str]]] = {}
        self.artefact_of: dict[int, tuple[Section, Artefact | None]] = {}
        self.by_hash: dict[str, Experiment] = {}
        self.asking: dict[str, list[Request]] = {}
        self.stages: dict[str, tuple[Section, str, Request]] = {}  # by the hash of the base that starts from them
        self.collapsed = 0

    def add(self, request: Request) -> None:
        faults = Problems()
        self._add(request, faults)
        where = f"{request.key} " if request.key else ""
        self.problems.lines += [where + line for line in faults.lines]

    def _add(self, request: Request, problems: Problems) -> None:
        request = self._globally(request)
        self.task.check(request, problems)
        resolved = self._base(request, problems)
        if resolved is None or problems.lines:
            return
        base, base_hash = resolved
        self._note(self.task.notes(request, base))
        if request.finetune is None:
            self._keep_base(base, base_hash, request)
            vouched = paths.BASE_METADATA.format(hash=base_hash)
            self._keep_export(request, (base, None), self.plan.bases[base_hash], vouched)
            return
        finetune = self.task.finetune_spec(request, base, base_hash, self.fingerprints)
        if finetune.base:
            self._keep_base(base, base_hash, request)
        self._keep_experiment(request, base, finetune, problems)

    def _globally(self, request: Request) -> Request:
        """With `run.batch_size_per_gpu` the batch sizes of a request are those of one process: make them global ones."""
        processes = self.study.run.world_size * self.study.run.nodes
        if not self.study.run.batch_size_per_gpu or processes == 1:
            return request

        def whole(section: Section | None) -> Section | None:
            size = getattr(section, "batch_size", None)
            return section if size is None else section.model_copy(update={"batch_size": size * processes})

        base = whole(request.base)
        if parent := getattr(base, "parent", None):
            base = base.model_copy(update={"parent": _of_all_processes(parent, processes)})
        self._note(
            [f"batch_size: {request.base.batch_size} a process, {base.batch_size} in all, over {processes} processes"]
        )
        return replace(request, base=base, finetune=whole(request.finetune))

    def _base(self, request: Request, problems: Problems) -> tuple[Section, str] | None:
        wish = (request.scope, request.data, request.base)
        key = (*(section.model_dump_json() for section in wish), request.unit.name)
        if key not in self.resolved:
            faults = Problems()
            self.resolved[key] = (self._resolve_base(request, faults), faults.lines)
        resolved, lines = self.resolved[key]
        problems.lines += lines
        return resolved

    def _resolve_base(self, request: Request, problems: Problems) -> tuple[Section, str] | None:
        """A base spec and its hash; the stages before it are resolved first."""
        stage = self.task.parent_request(request, problems)
        parent = self._stage(request, stage, problems) if stage else None
        if stage and not parent:
            return None
        spec = self.task.base_spec(request, parent, self.fingerprints, problems)
        if spec is None:
            return None
        if parent:
            self.stages[digest(spec)] = (*parent, stage)
        return spec, digest(spec)

    def _stage(self, request: Request, stage: Request, problems: Problems) -> tuple[Section, str] | None:
        """The stage before a base training; what is wrong with that training too is not said twice."""
        said, faults = Problems(), Problems()
        self.task.check(replace(request, finetune=None), said)
        self.task.check(stage, faults)
        problems.lines += [line.replace("base.", "base.parent.", 1) for line in faults.lines if line not in said.lines]
        return self._base(stage, problems)

    def _keep_base(self, spec: Section, base_hash: str, request: Request) -> None:
        """Let a base join the plan, after the stages before it."""
        self.asking.setdefault(base_hash, []).append(request)
        if base_hash not in self.plan.bases:
            if base_hash in self.stages:
                self._keep_base(*self.stages[base_hash])
            artefact = self._artefact(request)
            folder = self._folder(request, artefact)
            self.plan.bases[base_hash] = Training(
                base_hash,
                spec,
                folder,
                artefact,
                parent=getattr(spec, "parent", None),
                expect=canonical(self.task.expectations(request.data)),
            )

    def _keep_experiment(self, request: Request, base: Section, spec: Section, problems: Problems) -> None:
        experiment_hash = digest(spec)
        if experiment_hash in self.by_hash:
            self.collapsed += 1
            return
        settings = self.task.row(request, base, spec)
        name = self._name(request, settings, problems)
        setting = self.task.setting(request, base, spec, self.fingerprints)
        prefix = f"{name}_{short_digest(setting)}"
        artefact = self._artefact(request)
        experiment = Experiment(
            experiment_hash,
            spec,
            self._folder(request, artefact),
            artefact,
            (request,),
            expect=canonical(self.task.expectations(request.data)),
            base=spec.base,
            prefix=prefix,
            unit=request.unit.name,
            settings=settings,
        )
        self.by_hash[experiment_hash] = experiment
        if (prefix, request.unit.name) in self.plan.experiments:
            problems.add(
                "prefix", prefix, f"names two different experiments of {request.unit.name}; change the template"
            )
        self.plan.experiments[prefix, request.unit.name] = experiment
        done = paths.experiment_done(prefix, request.unit.name)
        self._keep_export(request, (base, spec), experiment, done)

    def _name(self, request: Request, settings: dict, problems: Problems) -> str:
        """The readable part of a prefix: the study's template, a job's own name, or the task's default."""
        if request.prefix is None:
            return readable(self.task.default_name(settings))
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(request.prefix) if name is not None]
            for name in fields:
                if name not in settings:
                    problems.add("prefix", request.prefix, f"{{{name}}} unknown; {nearest(name, settings)}")
            values = {name: f"{v:g}" if isinstance(v, float) else v for name, v in settings.items()}
            return readable(request.prefix.format(**{name: values.get(name, "") for name in fields}))
        except (ValueError, IndexError, AttributeError, KeyError):
            problems.add("prefix", request.prefix, "is not a template; write text and {setting}")
            return "setting"

    def _artefact(self, request: Request) -> Artefact | None:
        if id(request.data) not in self.artefact_of:
            self.artefact_of[id(request.data)] = (request.data, self.task.artefact(request.data))
        artefact = self.artefact_of[id(request.data)][1]
        if artefact:
            self._keep_artefact(artefact)
        return artefact

    def _keep_artefact(self, artefact: Artefact) -> None:
        self.plan.artefacts[artefact.name] = artefact
        for needed in artefact.needs:
            self._keep_artefact(needed)

    def _keep_export(
        self, request: Request, specs: tuple[Section, Section | None], training: Training, source: str
    ) -> None:
        """An export of one training, where the task names a folder for it; two trainings cannot share one."""
        folder = self.task.export_folder(request, *specs)
        if folder is None:
            return
        export = Export(folder, training.hash, training.data, source)
        if self.plan.exports.setdefault(folder, export) != export:
            self.problems.add("export", folder, "names two different models; give their settings names of their own")

    def _folder(self, request: Request, artefact: Artefact | None) -> str:
        return paths.prepared(artefact.name) if artefact else self.task.data_folder(request.data)

    def _note(self, lines: list[str]) -> None:
        self.plan.notes += [line for line in lines if line not in self.plan.notes]

    def add_baselines(self) -> None:
        """The task's reference measurements beside each base that is wanted, not beside the stages before it, at every
        fraction that the plan's experiments use."""
        wanted = {experiment.base for experiment in self.plan.experiments.values()} | set(self.plan.lone_bases)
        for base_hash, training in self.plan.bases.items():
            for request in self.asking[base_hash] if base_hash in wanted else ():
                for spec in self.task.baselines(request, training.spec, self._fractions(), self.fingerprints):
                    name = digest(spec)
                    self.plan.baselines.setdefault(name, Training(name, spec, training.data, training.artefact))

    def _fractions(self) -> tuple[float, ...]:
        seen = {e.settings.get("target_data_pct") for e in self.plan.experiments.values()}
        return tuple(sorted(value for value in seen if value is not None))

    def finish(self) -> Plan:
        plan, continues = self.plan, self._continuations()
        self._tell_apart()
        plan.bases = {
            name: replace(training, asked_by=tuple(self.asking[name]), continues=continues.get(name))
            for name, training in plan.bases.items()
        }
        if self.collapsed:
            self._note(
                [f"{self.collapsed} experiments ask for a training that another one asks for already; each is run once"]
            )
        ignored = ignored_fields(self.study.jobs or [])
        if ignored:
            self._note([f"jobs: ignored, for they change no weights here: {', '.join(ignored)}"])
        return plan

    def _tell_apart(self) -> None:
        """Number the experiments that no setting of the summary tells apart, or tables would take them for one."""
        alike: dict[tuple[str, str], list[Experiment]] = {}
        for experiment in self.plan.experiments.values():
            alike.setdefault((experiment.unit, canonical(experiment.settings)), []).append(experiment)
        if any(len(group) > 1 for group in alike.values()):
            self._note(["summary.csv: variant tells apart experiments that differ in what no other column says"])
            for group in alike.values():
                for number, experiment in enumerate(group, 1):
                    experiment.settings["variant"] = number

    def _continuations(self) -> dict[str, str]:
        """For each base that only asks for more of what a shorter one does: the longest such shorter one."""
        groups: dict[tuple[bool, str], list[tuple[int, str]]] = {}
        for name, training in self.plan.bases.items():
            common, amount, exact = self.task.budget(training.spec)
            groups.setdefault((exact, common), []).append((amount, name))
        if any(len(group) > 1 for (exact, _), group in groups.items() if not exact):
            self._note(
                ["budgets: each is trained apart, for their schedule depends on the budget; constant would share"]
            )
        chains = [sorted(group) for (exact, _), group in groups.items() if exact]
        return {name: before for chain in chains for (_, before), (_, name) in pairwise(chain)}


def _of_all_processes(stage: dict, processes: int) -> dict:
    """A stage as its user wrote it, its batch size times the processes, and so the stages before it; what is no number
    is told later."""
    stage = dict(stage)
    if str(stage.get("batch_size")).isdecimal():
        stage["batch_size"] = int(stage["batch_size"]) * processes
    if isinstance(stage.get("parent"), dict):
        stage["parent"] = _of_all_processes(stage["parent"], processes)
    return stage


def job_lists(plan: Plan) -> tuple[list[dict], list[dict]]:
    """The plan as two flat job lists, of base trainings and of experiments, that read back to the same plan."""
    task = plan.study.planner
    bases = [
        flat_job(training.asked_by[0], task, f"base_{name}") | {"mode": "base_only", BASE_JOB_MARK: name}
        for name, training in plan.bases.items()
    ]
    finetunes = []
    for experiment in plan.experiments.values():
        job = flat_job(experiment.asked_by[0], task, experiment.prefix.rpartition("_")[0])
        finetunes.append(job | ({"base_model_hash": experiment.base} if experiment.base else {}))
    return bases, finetunes
