#!/usr/bin/env python
"""Train one base model, or take it from the store, and publish it as base_models/<hash>.pt. Prints the hash.

Either a resolved spec (as the workflow passes it):  train_base.py --spec '{…}' --data_path data/x
or flags:  train_base.py --fold 0 --batch_size 64 --model test --lr 0.0003 --data_path data/x --participants a b c
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rootstock.commands import cli
from rootstock.commands.by_hand import base_of_flags
from rootstock.job.job import Job, read_spec
from rootstock.job.launch import is_worker
from rootstock.job.records import recorded
from rootstock.job.train import train
from rootstock.study import paths
from rootstock.study.task import Task


def main() -> int:
    task = cli.task_of(sys.argv[1:])
    args = parse(task)
    run = cli.read_run(args)
    if args.spec:
        spec, data = read_spec(cli.spec_text(args.spec), "base"), cli.data_of(args)
    else:
        spec, data, args.expect = base_of_flags(cli.job_of(args, task), task)
    asked_by = {"study": args.asked_by or "by hand", "name": args.prefix}
    job = Job(
        spec,
        data,
        args.store,
        start_model=args.parent_model,
        continues=args.continues,
        checkpoint=args.start_from,
        expect=args.expect,
        run=run,
        asked_by=asked_by,
        say=cli.say,
    )
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
    cli.add_task_flag(parser)
    parser.add_argument("--spec", help="a resolved base spec, as JSON or as a file; no other setting is then read")
    parser.add_argument(
        "--parent_model", nargs="?", help="the published model of the stage before, where the spec has one"
    )
    parser.add_argument(
        "--continues", nargs="?", help="hash of a shorter training to go on from; the result is the same"
    )
    parser.add_argument("--start_from", help="a checkpoint to go on from; see resume_training.py")
    parser.add_argument("--prefix", type=cli.safe_name, help="a name for the records; the file is named by the hash")
    parser.add_argument("--output", type=cli.new_file, help="where to publish (default: base_models/<hash>.pt)")
    cli.add_run_flags(parser)
    cli.add_setting_flags(parser, task, ("unit", "scope", "data", "base"))
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
