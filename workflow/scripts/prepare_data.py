#!/usr/bin/env python
"""Prepare what a task makes once and all its trainings share, such as windows, tokens or another model's vectors."""

if __name__ == "__main__":  # with --warm: a process that has torch loaded does all that follows
    from rootstock.warm.client import run_warm

    run_warm()

from rootstock.commands import cli
from rootstock.job.prepare import prepare
from rootstock.tasks.reading import read_spec
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--task", required=True, help="the task that needs it")
    parser.add_argument("--spec", required=True, help="what to prepare: JSON, as text or as a file")
    cli.add_run_settings(parser)
    parser.add_argument(
        "--output", required=True, type=cli.new_folder, help="folder to write; its manifest.json is written last"
    )
    args = parser.parse_args()
    spec = read_spec(cli.spec_text(args.spec), "prepared", args.task)
    prepare(TASKS.find(args.task), spec, args.output, cli.read_run(args), cli.say)
    return 0


if __name__ == "__main__":
    cli.run(main)
