#!/usr/bin/env python
"""Every language model and checkpoint of the store, the newest first: what it is, how far it is, where it lies."""

from tabulate import tabulate

from rootstock import cli
from rootstock.store.inventory import sizes_text
from rootstock.study.problems import Refusal
from rootstock.tasks.language_model.records import TRAIN_FIRST, records


def main() -> int:
    parser = cli.parser(__doc__)
    cli.add_store_flag(parser)
    args = parser.parse_args()
    found = records(args.store)
    if not found:
        raise Refusal(f"{args.store}: holds no checkpoint of a language model; {TRAIN_FIRST}")
    rows = [
        {
            "training": record.about,
            "kind": record.kind,
            "step": record.step,
            "epoch": "" if record.passes is None else f"{record.passes:.2f}",
            "loss": "" if record.loss is None else f"{record.loss:.4f}",
            "date (UTC)": record.date,
            "size": sizes_text(record.size),
            "processes": record.world_size,
            "resumed from": record.resumed_from,
            "path": record.path,
        }
        for record in found
    ]
    cli.say(tabulate(rows, headers="keys", disable_numparse=True))
    return 0


if __name__ == "__main__":
    cli.run(main)
