#!/usr/bin/env python
"""Every model and checkpoint of the store, the newest first: what it is, how far it is, where it lies."""

import sys
from typing import Any

from tabulate import tabulate

from rootstock.commands import cli
from rootstock.store.inventory import sizes_text
from rootstock.store.model_files import TRAIN_FIRST, ModelFile, model_files
from rootstock.study.identity import is_hash
from rootstock.study.problems import Refusal, show
from rootstock.tasks.reading import spec_of
from rootstock.tasks.registry import TASKS

MOST_TOLD = 4  # settings of a row


def main() -> int:
    parser = cli.parser(__doc__)
    cli.add_own_task_flag(parser, "only models of this task (default: of all); of your own, name it")
    cli.add_store_flag(parser)
    args = parser.parse_args()
    found = model_files(args.store, args.task)
    if not found:
        raise Refusal(f"{args.store}: holds no model{f' of {args.task}' if args.task else ''}; {TRAIN_FIRST}")
    shown = [(file, cells) for file in found if (cells := row(file))]
    tell_apart(shown)
    rows = [cells for _, cells in shown]
    cli.say(tabulate(rows, headers="keys", disable_numparse=True))
    return 0


def row(file: ModelFile) -> dict[str, Any] | None:
    """What is shown of a file; None, and a line, where its task cannot say what it is: one file hides no other."""
    try:
        about, passes = known(file)
    except Exception as error:  # of a task of the user's own, or of one that reads what anybody wrote
        reason = f"{file.path}: left out, {file.task} cannot say what it is ({type(error).__name__}: {error})"
        print(cli.printable(" ".join(reason.split())), file=sys.stderr)
        return None
    return {
        "task": file.task,
        "training": " ".join(about.split()),
        "kind": file.kind,
        "step": file.step,
        "epoch": "" if passes is None else f"{passes:.2f}",
        "loss": "" if file.loss is None else f"{file.loss:.4f}",
        "date (UTC)": file.date,
        "size": sizes_text(file.size),
        "processes": file.world_size,
        "resumed from": file.resumed_from,
        "path": file.path,
    }


def tell_apart(shown: list[tuple[ModelFile, dict[str, Any]]]) -> None:
    """To trainings that are about the same, add the settings in which they differ."""
    alike: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}  # specs by hash
    for file, cells in shown:
        alike.setdefault((file.task, cells["training"]), {})[file.hash] = flat(file.spec)
    for file, cells in shown:
        specs = alike[file.task, cells["training"]]
        mine = specs[file.hash]
        names = [name for name in mine if any(other.get(name) != mine[name] for other in specs.values())]
        told = [f"{name} {short(mine[name])}" for name in names[:MOST_TOLD]] + ["…"] * (len(names) > MOST_TOLD)
        cells["apart"] = " ".join(", ".join(told).split())
    for _, cells in shown:
        cells["training"] = ", ".join(filter(None, (cells["training"], cells.pop("apart"))))


def flat(spec: dict[str, Any], before: str = "") -> dict[str, Any]:
    """The settings of a spec, those of sections as `data.split`; without where it was resumed, which has a column."""
    found: dict[str, Any] = {}
    for name, value in spec.items():
        if isinstance(value, dict) and name != "resumed_from":
            found |= flat(value, f"{before}{name}.")
        elif name not in ("resumed_from", "recipe"):
            found[f"{before}{name}"] = value
    return found


def short(value: Any) -> str:
    """A value in a table: of a hash its beginning."""
    return value[:8] if is_hash(value) else show(value)


def known(file: ModelFile) -> tuple[str, float | None]:
    """What a training is about and how often it went over its data, as its task says it; a task of a file's own is not
    loaded for that."""
    try:
        task, spec = TASKS.of_file(file.task), spec_of(file.spec)
    except Refusal:
        return "?", None
    return task.about(spec), task.passes(spec, file.step, file.epochs, file.data)


if __name__ == "__main__":
    cli.run(main)
