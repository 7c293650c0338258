#!/usr/bin/env python
"""Fine-tune one model, or take it from the store, and publish it as experiments/<prefix>/<unit>/. Prints the folder.

Either a resolved spec (as the workflow passes it):  train_finetune.py --spec '{…}' --data_path data/x --base base_models/H.pt
or the flags of its base model and its own:  train_finetune.py --fold 0 --data_path data/x --participants a b c
    --base_model_hash H --mode target_only_fine_tuning --target_data_pct 0.1 --prefix try1
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rootstock.commands import cli
from rootstock.commands.by_hand import finetune_of_flags
from rootstock.job.job import Job, read_spec
from rootstock.job.launch import is_worker
from rootstock.job.records import recorded
from rootstock.job.train import train
from rootstock.study.problems import Refusal
from rootstock.study.task import Task


def main() -> int:
    task = cli.task_of(sys.argv[1:])
    args = parse(task)
    run = cli.read_run(args)
    if args.spec:
        spec = read_spec(cli.spec_text(args.spec), "fine-tune")
        data, base, folder = cli.data_of(args), args.base, args.output
    else:
        spec, data, base, folder, args.expect = finetune_of_flags(cli.job_of(args, task), task, args)
    if not folder:
        raise Refusal("--output: missing; with --spec it says where the experiment is published")
    asked_by = {"study": args.asked_by or "by hand", "name": folder}
    job = Job(
        spec,
        data,
        args.store,
        base,
        checkpoint=args.start_from,
        expect=args.expect,
        run=run,
        asked_by=asked_by,
        say=cli.say,
    )
    if is_worker():
        train(job)
        return 0
    with recorded(args.asked_by, "finetune", folder.removeprefix("experiments/")) as record:
        train(replace(job, record=record)).publish_experiment(Path(folder))
    cli.say(f"published {folder}")
    return 0


def parse(task: Task) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    cli.add_task_flag(parser)
    parser.add_argument("--spec", help="a resolved fine-tune spec, as JSON or as a file; no other setting is then read")
    parser.add_argument("--base", nargs="?", help="the published base model, with --spec; nothing for target_only")
    parser.add_argument(
        "--base_model_hash", help="the base model to start from; the flags of its training may be left out"
    )
    parser.add_argument("--start_from", help="a checkpoint to go on from; see resume_training.py")
    parser.add_argument("--prefix", type=cli.safe_name, help="readable part of the experiment's folder")
    parser.add_argument("--output", type=cli.new_folder, help="where to publish (default: experiments/<prefix>/<unit>)")
    cli.add_run_flags(parser)
    cli.add_setting_flags(parser, task, ("unit", "scope", "data", "base", "finetune"))
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
