"""A plan as the rules need it, one row per job. A run keeps it in a file while its jobs are on Slurm. The Snakemake
that each job starts reads only the rows it needs and plans nothing, so its cost does not depend on the size of the
study. Light: no torch."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..store.files import write_atomically
from ..study import paths
from ..study.identity import HASH_LENGTH, sha256_bytes
from ..study.plan import Plan, Planned
from ..study.request import Export
from ..study.run import Run

FOLDER = Path(".rootstock/plans")
VARIABLE = "ROOTSTOCK_PLAN"  # tells the jobs of a run the file: sbatch passes the environment on


@dataclass(frozen=True)
class Row:
    """What the rules need of a base model, an experiment or a classical model; names as in `Planned`."""

    hash: str
    json: str
    data: str
    prepared: str | None
    mem_mb: int
    expect: str = "{}"
    parent: str | None = None
    base: str | None = None
    continues: str | None = None
    own_class: str | None = None


@dataclass(frozen=True)
class ArtefactRow:
    """What the rules need of a prepared artefact; names as in `Artefact`."""

    json: str
    need_names: tuple[str, ...]
    on_gpu: bool


@dataclass(frozen=True)
class StudyRow:
    """What the rules need of the study; names as in `Study`."""

    name: str
    task_name: str
    store: str
    run: Run
    retrain: bool


class StoredPlan:
    """The attributes of a `Plan` that the rules use. Only exports can be listed: a job looks up its own rows."""

    lone_bases: tuple[str, ...] = ()

    def __init__(self, file: Path):
        rows = sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)
        about = json.loads(_found(rows, "about", ""))
        self.study_file: str = about["study_file"]
        self.made: dict[str, str] = about["made"]
        self.study = StudyRow(**about["study"] | {"run": Run(**about["study"]["run"])})
        self.bases = _Rows(rows, "base", Row)
        self.experiments = _Rows(rows, "experiment", Row)
        self.baselines = _Rows(rows, "baseline", Row)
        self.artefacts = _Rows(rows, "artefact", ArtefactRow)
        self.exports = _Rows(rows, "export", Export, is_listed=True)


class _Rows(Mapping[Any, Any]):
    """The rows of one kind, each read on access."""

    def __init__(self, rows: sqlite3.Connection, kind: str, row: type, is_listed: bool = False):
        self.rows, self.kind, self.row, self.is_listed = rows, kind, row, is_listed

    def __getitem__(self, key: Any) -> Any:
        return self.row(**json.loads(_found(self.rows, self.kind, _text(key))))

    def __iter__(self) -> Iterator[str]:
        listed = self.rows.execute("SELECT key FROM rows WHERE kind = ?", (self.kind,)) if self.is_listed else ()
        return (key for (key,) in listed)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def keep_rows(plan: Plan, module: str | None = None, made: dict[str, str] | None = None) -> Path:
    """Write the rows of a run for its jobs, name the file in the environment, and delete what an earlier run of the
    study left. `made`: the patterns of its rules' wildcards."""
    content = _database(plan, made or {})
    file = FOLDER / f"{plan.study.name}.{sha256_bytes(content)[:HASH_LENGTH]}.sqlite"
    write_atomically(file, content)
    for other in FOLDER.glob("*.sqlite"):
        if other != file and other.stem.rpartition(".")[0] == plan.study.name:  # a study's name may have dots
            other.unlink(missing_ok=True)
    os.environ[_variable(module)] = str(file)
    return file


def kept_rows(module: str | None = None) -> StoredPlan | None:
    """In a job of a run, the plan that the run kept; None if there is none."""
    file = os.environ.get(_variable(module))
    try:
        return StoredPlan(Path(file)) if file and Path(file).is_file() else None
    except sqlite3.DatabaseError:  # just removed, or not a file of rows
        return None


def _variable(module: str | None) -> str:
    return f"{VARIABLE}_{module}" if module else VARIABLE


def _database(plan: Plan, made: dict[str, str]) -> bytes:
    rows = sqlite3.connect(":memory:")
    rows.execute("CREATE TABLE rows (kind TEXT, key TEXT, content TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID")
    told = ((kind, _text(key), json.dumps(content)) for kind, key, content in _told(plan, made))
    rows.executemany("INSERT INTO rows VALUES (?, ?, ?)", told)
    rows.commit()
    return rows.serialize()


def _told(plan: Plan, made: dict[str, str]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    study = plan.study
    about = {"name": study.name, "task_name": study.task_name, "store": study.store, "retrain": study.retrain}
    yield "about", "", {"study_file": plan.study_file, "made": made, "study": about | {"run": study.run.model_dump()}}
    for name, base in plan.bases.items():
        yield (
            "base",
            name,
            asdict(_row(base, base.expect, parent=base.parent, continues=base.continues, own_class=base.own_class)),
        )
    for (prefix, unit), experiment in plan.experiments.items():
        yield "experiment", (prefix, unit), asdict(_row(experiment, experiment.expect, base=experiment.base))
    for name, baseline in plan.baselines.items():
        yield "baseline", name, asdict(_row(baseline))
    for name, artefact in plan.artefacts.items():
        yield "artefact", name, asdict(ArtefactRow(artefact.json, artefact.need_names, artefact.on_gpu))
    for folder, export in plan.exports.items():
        yield "export", folder, asdict(export)


def _row(training: Planned[Any], expect: str = "{}", **more: str | None) -> Row:
    return Row(training.hash, training.json, training.data, training.prepared, training.mem_mb, expect, **more)


def _text(key: Any) -> str:
    return key if isinstance(key, str) else paths.EXPERIMENT.format(prefix=key[0], unit=key[1])


def _found(rows: sqlite3.Connection, kind: str, key: str) -> str:
    found = rows.execute("SELECT content FROM rows WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    if found is None:
        raise KeyError(key)
    return found[0]
