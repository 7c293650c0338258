#!/usr/bin/env python
"""Measure one classical model on one target, on the windows and splits that the networks use."""

if __name__ == "__main__":  # with --warm: a process that has torch loaded does all that follows
    from rootstock.warm.client import run_warm

    run_warm()

from pathlib import Path

from rootstock.commands import cli
from rootstock.job.gpus import granted_gpus
from rootstock.store.files import write_json
from rootstock.tasks.reading import read_spec
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--spec", required=True, help="a baseline spec, as JSON or as a file")
    parser.add_argument("--data_path", required=True, help="folder of the windows")
    parser.add_argument("--output", required=True, type=cli.new_file, help="JSON file of rows to write")
    cli.add_warm_flag(parser)
    args = parser.parse_args()
    spec = read_spec(cli.spec_text(args.spec), "baseline")
    with granted_gpus(0, "cpu", cli.say):  # its rule asks for none, so none is taken from trainings
        rows = TASKS.find(spec.task).baseline_methods().measure_baseline(spec, args.data_path)
    write_json(Path(args.output), rows)
    for row in rows:
        cli.say(str(row))
    return 0


if __name__ == "__main__":
    cli.run(main)
