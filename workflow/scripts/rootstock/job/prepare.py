"""Prepare an artefact under a lock, so that it is made only once if two studies need it at the same time."""

import json
from collections.abc import Callable
from pathlib import Path

from ..store.lock import hold
from ..study.fields import Section
from ..study.identity import canonical
from ..study.run import Run
from ..study.task import Task
from .gpus import granted_gpus


def prepare(
    task: Task, spec: Section, folder: str | Path, run: Run | None = None, say: Callable[[str], None] = print
) -> None:
    """Fill `folder` with what `spec` describes, unless its manifest says that this is done."""
    folder = Path(folder)
    with hold(folder.with_name(f".{folder.name}.lock"), say=say):
        if _is_prepared(folder, spec):
            say(f"{folder} is there; nothing to prepare")
            return
        run = run or Run()
        asked = None if run.gpus_asked is None else min(run.gpus_asked, 1)
        with granted_gpus(asked, run.device, say):
            task.preparer().prepare(spec, folder, run, say)
    say(f"prepared {folder}")


def _is_prepared(folder: Path, spec: Section) -> bool:
    try:
        found = json.loads((folder / "manifest.json").read_text())["spec"]
        return canonical(type(spec).model_validate(found)) == canonical(spec)
    except (OSError, ValueError, KeyError, TypeError):
        return False
