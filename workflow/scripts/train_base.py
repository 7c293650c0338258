#!/usr/bin/env python
"""Train one base model, or take it from the store, and publish it as base_models/<hash>.pt. Prints the hash.

Either a resolved spec (as the workflow passes it):  train_base.py --spec '{…}' --data_path data/x
or flags, planned like a study of one training:      train_base.py --task T --lr 0.0003 --batch_size 64 …  (--task T --help lists them)
"""

if __name__ == "__main__":  # with --warm: a process that has torch loaded does all that follows
    from rootstock.warm.client import run_warm

    run_warm()

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rootstock.commands import cli
from rootstock.commands.by_hand import base_of_flags
from rootstock.commands.training import add_training_flags, job_of_flags
from rootstock.job.launch import is_worker
from rootstock.job.records import recorded
from rootstock.job.train import train
from rootstock.study import paths
from rootstock.study.task import Task
from rootstock.tasks.reading import read_spec


def main() -> int:
    task = cli.task_of(sys.argv[1:])
    args = parse(task)
    if args.spec:
        spec, data = read_spec(cli.spec_text(args.spec), "base"), cli.data_of(args)
    else:
        spec, data, args.expect = base_of_flags(cli.job_of(args, task), task)
    job = job_of_flags(args, spec, data, args.prefix, start_model=args.parent_model, continues=args.continues)
    if is_worker():
        train(job)
        return 0
    model = args.output or paths.base_model(job.hash)
    with recorded(args.asked_by, "base", job.hash) as record:
        train(replace(job, record=record)).publish_base(Path(model), paths.base_metadata(model))
    cli.say(f"published {model}")
    cli.say(job.hash)
    return 0


def parse(task: Task) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--parent_model", nargs="?", help="the published model of the stage before, where the spec has one"
    )
    parser.add_argument("--continues", nargs="?", help="hash of a shorter training to continue; the result is the same")
    parser.add_argument("--prefix", type=cli.safe_name, help="a name for the records; the file is named by the hash")
    parser.add_argument("--output", type=cli.new_file, help="where to publish (default: base_models/<hash>.pt)")
    add_training_flags(parser, task, ("unit", "scope", "data", "base"))
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
