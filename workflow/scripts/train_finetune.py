#!/usr/bin/env python
"""Fine-tune one model, or take it from the store, and publish it as experiments/<prefix>/<unit>/. Prints the folder.

Either a resolved spec (as the workflow passes it):  train_finetune.py --spec '{…}' --data_path data/x --base base_models/H.pt
or the flags of its base model and its own:  train_finetune.py --task T --lr 0.0003 … --base_model_hash H --mode M --prefix try1
"""

if __name__ == "__main__":  # with --warm: a process that has torch loaded does all that follows
    from rootstock.warm.client import run_warm

    run_warm()

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from rootstock.commands import cli
from rootstock.commands.by_hand import finetune_of_flags
from rootstock.commands.training import add_training_flags, job_of_flags
from rootstock.job.launch import is_worker
from rootstock.job.records import recorded
from rootstock.job.train import train
from rootstock.study.problems import Refusal
from rootstock.study.task import Task
from rootstock.tasks.reading import read_spec


def main() -> int:
    task = cli.task_of(sys.argv[1:])
    args = parse(task)
    if args.spec:
        spec = read_spec(cli.spec_text(args.spec), "fine-tune")
        data, base, folder = cli.data_of(args), args.base, args.output
    else:
        spec, data, base, folder, args.expect = finetune_of_flags(cli.job_of(args, task), task, args)
    if not folder:
        raise Refusal("--output: missing; with --spec it says where the experiment is published")
    job = job_of_flags(args, spec, data, folder, start_model=base)
    if is_worker():
        train(job)
        return 0
    with recorded(args.asked_by, "finetune", folder.removeprefix("experiments/")) as record:
        train(replace(job, record=record)).publish_experiment(Path(folder))
    cli.say(f"published {folder}")
    return 0


def parse(task: Task) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--base", nargs="?", help="the published base model, with --spec; nothing for target_only")
    parser.add_argument(
        "--base_model_hash", help="the base model to start from; the flags of its training may be left out"
    )
    parser.add_argument("--prefix", type=cli.safe_name, help="readable part of the experiment's folder")
    parser.add_argument("--output", type=cli.new_folder, help="where to publish (default: experiments/<prefix>/<unit>)")
    add_training_flags(parser, task, ("unit", "scope", "data", "base", "finetune"))
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
