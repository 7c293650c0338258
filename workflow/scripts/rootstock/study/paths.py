"""Every path pattern of the contract on disk, relative to the project's folder."""

import unicodedata
from pathlib import Path

from .fields import is_name, readable
from .identity import SHORT_LENGTH, sha256_text

STORE = ".rootstock/store"
FINGERPRINTS = ".rootstock/fingerprints.json"

BASE_MODEL = "base_models/{hash}.pt"
BASE_METADATA = "base_models/{hash}_metadata.json"
BASE_LOG = "logs/base/{hash}.log"

EXPERIMENT = "experiments/{prefix}/{unit}"
EXPERIMENT_DONE = EXPERIMENT + "/metrics.json"
EXPERIMENT_LOG = "logs/finetune/{prefix}/{unit}.log"

PREPARED = "prepared/{name}"
PREPARED_DONE = PREPARED + "/manifest.json"
PREPARED_LOG = "logs/prepare/{name}.log"

RESULTS = "results/{study}"
SUMMARY = RESULTS + "/summary.csv"
SUMMARY_LOG = "logs/summarise/{study}.log"
TABLE = RESULTS + "/table.txt"
FIGURE = RESULTS + "/figure.svg"
PAGE = RESULTS + "/report.html"
ANSWER = RESULTS + "/answer.txt"
PAGE_FIGURES = RESULTS + "/figures"
PAGE_TABLES = RESULTS + "/tables"
PAPERS = tuple(
    f"{RESULTS}/{name}"
    for name in ("summary.parquet", "comparisons.csv", "gains.csv", "tables.tex", "values.tex", "methods.txt")
)
PAGE_LOG = "logs/report/{study}.log"
PARTIAL = RESULTS + "/partial/summary.csv"
PARTIAL_PAGE = RESULTS + "/partial/report.html"
RUN_LOG = RESULTS + "/run_log.json"
EXPORT_DONE = "{export}/export.json"
EXPORT_LOG = "logs/export/{export}.log"
TENSORBOARD = "logs/tensorboard/{hash}"
STUDY_FILE = ".rootstock/studies/{digest}.json"
CODE_FILE = ".rootstock/code/{study}.json"
BASELINE = RESULTS + "/baselines/{name}.json"
BASELINE_LOG = "logs/baselines/{study}/{name}.log"


def base_model(base_hash: str) -> str:
    return BASE_MODEL.format(hash=base_hash)


def base_metadata(model: str | Path) -> Path:
    """The metadata file published beside a base model."""
    model = Path(model)
    return model.with_name(f"{model.stem}_metadata.json")


def unit_folder(unit: str) -> str:
    """The name of a unit's folder and log: the unit's own name if that is safe, otherwise its readable part and a hash
    that keeps different names apart."""
    if is_name(unit):
        return unit
    plain = unicodedata.normalize("NFKD", unit).encode("ascii", "ignore").decode()
    return f"{readable(plain)}_{sha256_text(unit)[:SHORT_LENGTH]}"


def experiment(prefix: str, unit: str) -> str:
    return EXPERIMENT.format(prefix=prefix, unit=unit_folder(unit))


def experiment_done(prefix: str, unit: str) -> str:
    return EXPERIMENT_DONE.format(prefix=prefix, unit=unit_folder(unit))


def prepared(name: str) -> str:
    return PREPARED.format(name=name)


def prepared_done(name: str) -> str:
    return PREPARED_DONE.format(name=name)
