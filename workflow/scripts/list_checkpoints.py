#!/usr/bin/env python
"""Every model and checkpoint of the store, the newest first: what it is, how far it is, where it lies."""

from typing import Any

from tabulate import tabulate

from rootstock.commands import cli
from rootstock.job.job import spec_of
from rootstock.store.inventory import sizes_text
from rootstock.store.model_files import TRAIN_FIRST, ModelFile, model_files
from rootstock.study.problems import Refusal
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--task", help="only models of this task (default: of all)")
    cli.add_store_flag(parser)
    args = parser.parse_args()
    found = model_files(args.store, args.task)
    if not found:
        raise Refusal(f"{args.store}: holds no model{f' of {args.task}' if args.task else ''}; {TRAIN_FIRST}")
    cli.say(tabulate([row(file) for file in found], headers="keys", disable_numparse=True))
    return 0


def row(file: ModelFile) -> dict[str, Any]:
    task, spec = TASKS.find(file.task), spec_of(file.spec)
    passes = task.passes(spec, file.step, file.epochs, file.data)
    return {
        "task": task.name,
        "training": task.about(spec),
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


if __name__ == "__main__":
    cli.run(main)
