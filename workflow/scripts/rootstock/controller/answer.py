"""What a run shows when it ends: the table and all paths; after a failure, the same for the finished experiments."""

import csv
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ..store.files import write_atomically
from ..study import paths
from ..study.identity import short_digest
from ..study.plan import Plan
from ..study.told import printable
from ..tasks.code import ANEW
from .code import made_by_other_code, of_other_code

SCRIPTS = Path(__file__).parents[2]
FILES = [Path(path).name for path in (paths.SUMMARY, paths.TABLE, paths.FIGURE)]
NOTHING_TO_DO = "Nothing to be done"  # the beginning of Snakemake's message; it then calls no hook


def answer(plan: Plan, logs: Sequence[str] = ()) -> str:
    """The table of a study, the sentences that answer it, and its paths; its page last. `logs` are Snakemake's. The
    table and the sentences are made printable, because they may contain what others wrote in a shared store."""
    lines = [f"exported: {folder}" for folder in plan.exports if Path(folder).exists()]
    table = Path(paths.TABLE.format(study=plan.study.name))
    if table.exists():
        lines = [
            printable(table.read_text(encoding="utf-8", errors="replace")),
            *_sentences(plan, table.parent),
            f"results: {_listed(table.parent)}",
            *lines,
        ]
    page = Path(paths.PAGE.format(study=plan.study.name))
    models = f"models: {', '.join(_folders(plan))}"
    return "\n".join([*lines, models, *_of_code(plan), *log_lines(logs), *_page(plan, page)])


class AnswerAgain(logging.Handler):
    """Shows the answer of a run that has nothing to do, after `wait` has let earlier messages appear."""

    def __init__(self, plan: Plan, is_dry: Callable[[], bool], wait: Callable[[], None]):
        super().__init__()
        self.plan, self.is_dry, self.wait = plan, is_dry, wait

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(NOTHING_TO_DO) and not self.is_dry():
            self.wait()
            print(answer(self.plan))


def log_lines(logs: Sequence[str]) -> list[str]:
    """The path of Snakemake's log, which has all that the screen leaves out; empty if Snakemake keeps no log."""
    return [f"log: {os.path.relpath(log)}" for log in logs]


def partial_answer(plan: Plan, logs: Sequence[str] = ()) -> str:
    """Make the tables and the page of what is there after a failure, and return the same as text, or the reason why
    there is none. They are made in separate processes, because they need pandas."""
    summary, page = (Path(path.format(study=plan.study.name)) for path in (paths.PARTIAL, paths.PARTIAL_PAGE))
    done = _made("summarise", plan, summary)
    if done.returncode:
        return "\n".join([done.stderr, *log_lines(logs)])
    paged = _made("report", plan, page)
    listed = f"results of what is there: {_listed(summary.parent)}, missing.csv"
    last = [paged.stderr] if paged.returncode else _page(plan, page)
    return "\n".join(
        [printable(done.stdout), *_sentences(plan, page.parent), listed, *_of_code(plan), *log_lines(logs), *last]
    )


def _made(script: str, plan: Plan, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), "--partial", "--study", plan.study_file]
    return subprocess.run([*command, "--output", str(output)], capture_output=True, text=True)


def _page(plan: Plan, page: Path) -> list[str]:
    return [f"page: {page}"] if plan.experiments and page.exists() else []


def _sentences(plan: Plan, folder: Path) -> list[str]:
    """The sentences on the page in `folder`, which end with an empty line; none if the study has no page."""
    file = folder / Path(paths.ANSWER).name
    return [printable(file.read_text(encoding="utf-8", errors="replace"))] if plan.experiments and file.exists() else []


def make_room(plan: Plan, say: Callable[[str], None]) -> None:
    """Make room before a run replaces results: remove the partial results of a failed run and, if the study no longer
    asks for one of the earlier experiments, copy all earlier result files into a folder `older_…`."""
    shutil.rmtree(Path(paths.PARTIAL.format(study=plan.study.name)).parent, ignore_errors=True)
    summary = Path(paths.SUMMARY.format(study=plan.study.name))
    before = _experiments_of(summary)
    if before <= {
        *(experiment.path for experiment in plan.experiments.values()),
        *map(paths.base_model, plan.lone_bases),
    }:
        return
    older = summary.parent / f"older_{short_digest(sorted(before))}"
    for file in filter(Path.is_file, summary.parent.rglob("*")):
        place = file.relative_to(summary.parent)
        if not place.parts[0].startswith("older_"):
            write_atomically(older / place, file.read_bytes())
    say(f"note: results of {len(before)} experiments, some not in this study any more, are kept in {older}")


def _experiments_of(summary: Path) -> set[str]:
    """The experiments' folders in a summary: none if there is no summary, one with an empty name if it is damaged."""
    if not summary.exists():
        return set()
    with suppress(csv.Error), summary.open(encoding="utf-8", errors="replace", newline="") as lines:
        return {row.get("path", "") for row in csv.DictReader(lines)}
    return {""}


def _listed(folder: Path) -> str:
    return f"{folder}/: {', '.join(FILES)}"


def _of_code(plan: Plan) -> list[str]:
    """The note that must stand beside a table if some of its models were made by code other than the present code."""
    return [f"note: {told}; {ANEW.format(name='HASH')}" for told in made_by_other_code(plan, of_other_code(plan))]


def _folders(plan: Plan) -> list[str]:
    """The folders in which the models of a study are published."""
    folders = [Path(paths.BASE_MODEL).parent] * bool(plan.bases) + [Path("experiments")] * bool(plan.experiments)
    return [f"{folder}/" for folder in folders]
