"""From a study to requests: the product of all swept values for each unit, or one request per job of a flat list."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import product

from .config import Study
from .fields import Section
from .jobs import job_requests
from .problems import Problems
from .request import Request, Unit
from .task import Task
from .validate import Swept


def requests(study: Study, problems: Problems) -> list[Request]:
    """Every training that the study asks for, in a stable order; units vary fastest."""
    if study.jobs is not None:
        return job_requests(study, problems)
    return list(_grid_requests(study, problems))


def _grid_requests(study: Study, problems: Problems) -> Iterator[Request]:
    task = study.task
    bases = [base for grid in study.base for base in _combinations(task.base_section, grid)]
    finetunes, before = [None], len(problems.lines)
    if study.finetune is not None:
        finetunes = [finetune for grid in study.finetune for finetune in _combinations(task.finetune_section, grid)]
        if not problems.concern(("base",)):
            task.check_grid(bases, finetunes, problems)
    fits = len(problems.lines) == before
    for data in _combinations(task.data_section, study.data):
        scope, is_founded = study.scope, not problems.concern(("data", *task.foundations))
        if is_founded:
            before = len(problems.lines)
            data = task.complete_data(data, "data", problems)
            scope = task.complete_scope(scope, data, "", problems)
            is_founded = len(problems.lines) == before
        units = [Unit("all")]
        if is_founded:
            units = task.units(scope, problems) or task.any_unit(scope)  # a fault in the units hides no other fault
        for base, finetune, unit in product(bases, finetunes, units):
            request = Request("", scope, data, base, finetune, unit, study.prefix, is_founded)
            if not is_founded or task.is_meant(request):
                yield request
            elif not fits:  # it may be meant once the grid is fixed: report its other faults too
                yield replace(request, is_founded=False)


def of_settings(task: Task, request: Request) -> list[str]:
    """Faults of the base and fine-tune settings, whatever their data. A task that cannot check these without the data
    reports them once the data is fixed."""
    faults = Problems()
    with suppress(Exception):
        task.check(request, faults)
    return [line for line in faults.lines if line.startswith(("base.", "finetune."))]


def _combinations(section: type[Section], swept: Swept) -> list[Section]:
    names = list(swept)
    return [section(**dict(zip(names, values, strict=True))) for values in product(*swept.values())]
