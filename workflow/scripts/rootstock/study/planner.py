"""From requests to a plan: resolve specs, merge equal ones, give each its name and its folder. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from . import paths
from .config import Study
from .fields import Section
from .fingerprints import Fingerprints
from .grid import of_settings, requests
from .identity import canonical, digest, short_digest, text_digest
from .jobs import ignored_fields
from .memory import needed
from .plan import BaseTraining, Experiment, Plan, Planned
from .prefixes import readable_name
from .problems import Problems, show
from .request import Artefact, Export, Request
from .spec import BaseSpec, FinetuneSpec
from .task import Task

Resolved = tuple[BaseSpec, str]  # a spec and its hash


def make_plan(study: Study, problems: Problems, fingerprints: Fingerprints | None = None) -> Plan:
    """Resolve every request of a study; equal specs become one training. Raise all faults as one `StudyError`."""
    fingerprints = fingerprints or Fingerprints()
    if study.jobs is not None and problems.concern(("data", "jobs", *study.task.foundations)):
        problems.raise_if_any()  # data and scope are unknown: other faults would only follow from that
    asked = requests(study, problems)
    planner = _Planner(study, problems, fingerprints)
    for request in asked:
        planner.add(request)
    problems.raise_if_any()
    planner.add_baselines()
    fingerprints.save()
    return planner.finish()


class _Planner:
    """Grows a plan request by request."""

    def __init__(self, study: Study, problems: Problems, fingerprints: Fingerprints):
        self.study, self.task = study, study.task
        self.problems, self.fingerprints = problems, fingerprints
        self.plan = Plan(study)
        self.bases = _Bases(self.task, fingerprints)
        self.locations: dict[int, tuple[Section, str, Artefact | None, str]] = {}
        self.hashes: set[str] = set()  # of experiments
        self.asking: dict[str, list[Request]] = {}  # by the hash of a base
        self.collapsed = 0

    def add(self, request: Request) -> None:
        faults = Problems()
        self._add(request, faults) if request.is_founded else faults.lines.extend(of_settings(self.task, request))
        where = f"{request.key} " if request.key else ""
        self.problems.lines += [where + line for line in faults.lines]

    def _add(self, request: Request, problems: Problems) -> None:
        request = self._globally(request)
        self.task.check(request, problems)
        resolved = self.bases.resolve(request, problems)
        if resolved is None or problems.lines:
            return
        base, base_hash = resolved
        self._note([*self.task.notes(request, base), *_nulls(request)])
        if request.finetune is None:
            self._keep_base(base, base_hash, request)
            self._keep_base_export(request, base, base_hash)
            return
        finetune = self.task.normalised(self.task.finetune_spec(request, base, base_hash, self.fingerprints))
        assert isinstance(finetune, FinetuneSpec)
        if finetune.base:
            self._keep_base(base, base_hash, request)
        if finetune.is_update:  # an update is useless without its base model
            self._keep_base_export(request, base, base_hash)
        self._keep_experiment(request, base, finetune, problems)

    def _globally(self, request: Request) -> Request:
        """With `run.batch_size_per_gpu`, the batch sizes of a request are per process: turn them into global ones."""
        processes = self.study.run.processes_in_all
        if not self.study.run.batch_size_per_gpu or processes == 1:
            return request
        base = _of_all_processes(request.base, processes)
        self._note(
            [f"batch_size: {request.base.batch_size} a process, {base.batch_size} in all, over {processes} processes"]
        )
        return replace(request, base=base, finetune=_of_all_processes(request.finetune, processes))

    def _keep_base(self, spec: BaseSpec, base_hash: str, request: Request) -> None:
        """Add a base to the plan, after the stages before it."""
        self.asking.setdefault(base_hash, []).append(request)
        if base_hash in self.plan.bases:
            return
        if stage := self.bases.stages.get(base_hash):
            self._keep_base(*stage)
        folder, artefact, expect = self._location(request)
        mem_mb = needed(self.task.memory(request, spec, None, self.fingerprints), self.study.run)
        self.plan.bases[base_hash] = BaseTraining(base_hash, spec, folder, artefact, expect=expect, mem_mb=mem_mb)

    def _keep_experiment(self, request: Request, base: BaseSpec, spec: FinetuneSpec, problems: Problems) -> None:
        name, unit = digest(spec), request.unit.name
        if name in self.hashes:
            self.collapsed += 1
            return
        self.hashes.add(name)
        settings = self.task.settings(request, base, spec)
        prefix = self._prefix(request, base, spec, settings, problems)
        folder, artefact, expect = self._location(request)
        mem_mb = needed(self.task.memory(request, base, spec, self.fingerprints), self.study.run)
        experiment = Experiment(name, spec, folder, artefact, prefix, unit, settings, (request,), expect, mem_mb=mem_mb)
        key = prefix, paths.unit_folder(unit)
        if key in self.plan.experiments:
            problems.add("prefix", prefix, f"names two different experiments of {unit}; change the template")
        self.plan.experiments[key] = experiment
        self._keep_export(request, (base, spec), experiment, paths.experiment_done(prefix, unit))

    def _prefix(
        self, request: Request, base: BaseSpec, spec: FinetuneSpec, settings: dict[str, Any], problems: Problems
    ) -> str:
        name = readable_name(request.prefix, settings, self.task.default_name, problems)
        return f"{name}_{short_digest(self.task.folder_identity(request, base, spec, self.fingerprints))}"

    def _location(self, request: Request) -> tuple[str, Artefact | None, str]:
        """The folder of a request's data, the artefact prepared there, if any, and what the study expects of the data,
        as JSON. The task is asked once per data section."""
        data = request.data
        if id(data) not in self.locations:
            found = self.task.location(data)
            made = found if isinstance(found, Artefact) else None
            expect = canonical(self.task.expectations(data))
            self.locations[id(data)] = (data, paths.prepared(made.name) if made else str(found), made, expect)
            if made:
                self._keep_artefact(made)
        return self.locations[id(data)][1:]

    def _keep_artefact(self, artefact: Artefact) -> None:
        self.plan.artefacts[artefact.name] = artefact
        for before in artefact.needs:
            self._keep_artefact(before)

    def _keep_base_export(self, request: Request, base: BaseSpec, base_hash: str) -> None:
        vouched = paths.BASE_METADATA.format(hash=base_hash)
        self._keep_export(request, (base, None), self.plan.bases[base_hash], vouched)

    def _keep_export(
        self, request: Request, specs: tuple[BaseSpec, FinetuneSpec | None], training: Planned, published: str
    ) -> None:
        """Add the export of a training, if the task names a folder for it. Two trainings cannot share a folder."""
        folder = self.task.export_folder(request, *specs)
        if folder is None:
            return
        export = Export(folder, training.hash, training.data, published, training.mem_mb)
        if self.plan.exports.setdefault(folder, export) != export:
            self.problems.add("export", folder, "names two different models; give their settings names of their own")

    def _note(self, lines: list[str]) -> None:
        self.plan.notes += [line for line in lines if line not in self.plan.notes]

    def add_baselines(self) -> None:
        """Add the task's reference measurements for each base that is wanted, but not for the stages before it."""
        wanted = {experiment.base for experiment in self.plan.experiments.values()} | set(self.plan.lone_bases)
        beside = [
            (request, training)
            for name, training in self.plan.bases.items()
            for request in (self.asking[name] if name in wanted else ())
        ]
        asked = [(request, training.spec) for request, training in beside]
        settings = [experiment.settings for experiment in self.plan.experiments.values()]
        for position, spec in self.task.baselines(asked, settings, self.fingerprints):
            training, name = beside[position][1], digest(spec)
            measured = Planned(name, spec, training.data, training.artefact, mem_mb=training.mem_mb)
            self.plan.baselines.setdefault(name, measured)

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
        if ignored := ignored_fields(self.study.jobs or []):
            self._note([f"jobs: ignored, because they change no weights here: {', '.join(ignored)}"])
        return plan

    def _tell_apart(self) -> None:
        """Number experiments of a unit whose settings in the summary are equal, or tables would take them for one."""
        alike: dict[tuple[str, str], list[Experiment]] = {}
        for experiment in self.plan.experiments.values():
            told = sorted((name, value) for name, value in experiment.settings.items() if value is not None)
            alike.setdefault((experiment.unit, text_digest(repr(told))), []).append(experiment)
        if any(len(group) > 1 for group in alike.values()):
            self._note(["summary.csv: variant tells apart experiments that differ in what no other column says"])
            for group in alike.values():
                for number, experiment in enumerate(group, 1):
                    experiment.settings["variant"] = number

    def _continuations(self) -> dict[str, str]:
        """For each base that can continue a shorter one: the hash of the longest such one."""
        groups: dict[tuple[bool, str], list[tuple[int, str]]] = {}
        for name, training in self.plan.bases.items():
            if budget := self.task.budget(training.spec):
                groups.setdefault((budget.is_exact, budget.common), []).append((budget.amount, name))
        if any(len(group) > 1 for (is_exact, _), group in groups.items() if not is_exact):
            self._note(
                ["budgets: each is trained apart, for their schedule depends on the budget; constant would share"]
            )
        chains = [[name for _, name in sorted(group)] for (is_exact, _), group in groups.items() if is_exact]
        return {name: before for chain in chains for before, name in self._links(chain)}

    def _links(self, chain: list[str]) -> Iterator[tuple[str, str]]:
        """For each training of a chain, shortest first: the longest earlier one that it may continue, and itself."""
        for place, name in enumerate(chain):
            spec = self.plan.bases[name].spec
            able = (one for one in reversed(chain[:place]) if self.task.may_continue(spec, self.plan.bases[one].spec))
            if (before := next(able, None)) is not None:
                yield before, name


class _Bases:
    """Base specs, each resolved once per distinct wish."""

    def __init__(self, task: Task, fingerprints: Fingerprints):
        self.task, self.fingerprints = task, fingerprints
        self.resolved: dict[tuple[str, ...], tuple[Resolved | None, list[str]]] = {}
        self.stages: dict[str, tuple[BaseSpec, str, Request]] = {}  # by the hash of the base that starts from them

    def resolve(self, request: Request, problems: Problems) -> Resolved | None:
        """The base spec of a request and its hash; None where a fault was reported."""
        wish = (request.scope, request.data, request.base)
        key = (*(section.model_dump_json() for section in wish), request.unit.name)
        if key not in self.resolved:
            faults = Problems()
            self.resolved[key] = (self._resolve(request, faults), faults.lines)
        resolved, lines = self.resolved[key]
        problems.lines += lines
        return resolved

    def _resolve(self, request: Request, problems: Problems) -> Resolved | None:
        """Resolve the stages before a base, then the base."""
        stage = self.task.earlier_stage(request, problems)
        parent = self._stage(request, stage, problems) if stage else None
        if stage and not parent:
            return None
        spec = self.task.base_spec(request, parent, self.fingerprints, problems)
        if spec is None:
            return None
        spec = self.task.normalised(spec)
        assert isinstance(spec, BaseSpec)
        if stage and parent:
            self.stages[digest(spec)] = (*parent, stage)
        return spec, digest(spec)

    def _stage(self, request: Request, stage: Request, problems: Problems) -> Resolved | None:
        """Resolve the stage before a base training. Faults that the training itself shares are not reported twice."""
        said, faults = Problems(), Problems()
        self.task.check(replace(request, finetune=None), said)
        self.task.check(stage, faults)
        problems.lines += [line.replace("base.", "base.parent.", 1) for line in faults.lines if line not in said.lines]
        return self.resolve(stage, problems)


def _nulls(request: Request) -> Iterator[str]:
    """A note for each null in `finetune` that could be taken for a value: it stands for the base's value."""
    wish, base = request.finetune, request.base
    for name in wish.model_fields_set if wish else ():
        if getattr(wish, name) is None and (value := getattr(base, name, None)) is not None:
            yield f"finetune.{name}: null is as the base has it, {show(value)}"


def _of_all_processes(section: Any, processes: int) -> Any:
    """A section with its batch sizes, and those of the stages before it, turned from per process into global ones."""
    changes: dict[str, Any] = {}
    if getattr(section, "batch_size", None) is not None:
        changes["batch_size"] = section.batch_size * processes
    if getattr(section, "parent", None):
        changes["parent"] = _stage_of_all_processes(section.parent, processes)
    return section.model_copy(update=changes) if changes else section


def _stage_of_all_processes(stage: dict[str, Any], processes: int) -> dict[str, Any]:
    """The same for a stage as its user wrote it; a value that is not a number is reported later."""
    stage = dict(stage)
    if str(stage.get("batch_size")).isdecimal():
        stage["batch_size"] = int(stage["batch_size"]) * processes
    if isinstance(stage.get("parent"), dict):
        stage["parent"] = _stage_of_all_processes(stage["parent"], processes)
    return stage
