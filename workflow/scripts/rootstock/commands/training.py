"""What the two training scripts share: flags, and the job that the flags describe."""

import argparse
from typing import Any

from ..job.job import Job
from ..study.spec import BaseSpec, FinetuneSpec
from ..study.task import Task
from . import cli


def add_training_flags(parser: argparse.ArgumentParser, task: Task, sections: tuple[str, ...]) -> None:
    """Add the flags of any training, and one for each field of the study's `sections`."""
    cli.add_task_flag(parser)
    parser.add_argument("--spec", help="a resolved spec, as JSON or as a file; no other setting is then read")
    parser.add_argument(
        "--retrain",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="train anew what the store holds, where other model code made it (default: it is refused)",
    )
    parser.add_argument("--start_from", help="a checkpoint to start from; see resume_training.py")
    cli.add_own_class_flag(parser)
    cli.add_run_flags(parser)
    cli.add_setting_flags(parser, task, sections)


def job_of_flags(
    args: argparse.Namespace, spec: BaseSpec | FinetuneSpec, data: str, name: str | None, **more: Any
) -> Job:
    """The job of a spec, with the run settings from the flags; `name` is the user's name for it."""
    asked_by = {"study": args.asked_by or "by hand", "name": name}
    how = {"checkpoint": args.start_from, "retrain": args.retrain, "expect": args.expect, "say": cli.say}
    return Job(spec, data, args.store, asked_by=asked_by, run=cli.read_run(args), **how, **more)
