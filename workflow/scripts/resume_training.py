#!/usr/bin/env python
"""Take up a language model's training: the newest unfinished one, or the one of --checkpoint F, then train to its end.

Unchanged it ends as if it had never stopped. Another --max-steps or --batch-size is a new training with a hash of its own that
records where it was resumed from; what stays equal and what does not is printed before it starts.
"""

import json
import os
import sys
from pathlib import Path

from rootstock import cli
from rootstock.store.objects import require_hash, stored
from rootstock.study import paths
from rootstock.study.fields import is_name
from rootstock.study.identity import canonical
from rootstock.study.problems import Refusal
from rootstock.tasks.language_model.records import TRAIN_FIRST, Record, record_of, records
from rootstock.tasks.language_model.resume import Resumption, resume


def main() -> int:
    args = parse()
    record = record_of(Path(args.checkpoint)) if args.checkpoint else newest(args)
    args.run = json.dumps({name: value for name, value in record.run.items() if name not in ("sign_with", "trust")})
    args.gpus = gpus(args, record)
    run = cli.read_run(args)
    state = where(record)
    resumption = resume(record, state["epoch"], state["batch"], args.max_steps, args.batch_size, run.world_size)
    cli.say(f"from {record.path}: {record.about}, step {record.step}")
    for line in resumption.says:
        cli.say(line)
    command = command_of(record, resumption, run, args)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])  # one process: signals and exit status are the training's own


def newest(args) -> Record:
    """The checkpoint that is furthest in the training that was written to last; with a new budget a finished one too."""
    kinds = (
        ("checkpoint", "kept")
        if args.max_steps is None and args.batch_size is None
        else ("checkpoint", "kept", "state")
    )
    found = records(args.store)
    finished = {record.hash for record in found if record.kind in ("model", "state")}
    usable = [r for r in found if r.kind in kinds and (r.kind == "state" or r.hash not in finished)]
    if usable:
        return usable[0]
    if finished:
        raise Refusal("every training here is finished; give --max-steps to train one further, or name a --checkpoint")
    raise Refusal(f"{args.store}: holds no checkpoint of a language model; {TRAIN_FIRST}")


def gpus(args, record: Record) -> int:
    """All GPUs there are, unless told otherwise; `Refusal` where there are not so many."""
    import torch

    there = torch.cuda.device_count()
    wanted = there if getattr(args, "gpus", None) is None else int(args.gpus)
    if wanted > there:
        raise Refusal(f"--gpus: {wanted} are not there; this machine has {there}; use --processes on CPUs")
    return wanted


def where(record: Record) -> dict:
    """The loop's place in a checkpoint, which is read whole and verified on the way."""
    from rootstock.engine.checkpoint import read_state

    return read_state(record.path)


def command_of(record: Record, resumption: Resumption, run, args) -> list[str]:
    """The training command, as the workflow writes them."""
    is_branch = "base" in record.spec
    script = "train_finetune.py" if is_branch else "train_base.py"
    command = [
        str(Path(__file__).with_name(script)),
        "--spec",
        canonical(resumption.spec),
        "--data_path",
        data_of(record),
    ]
    command += [
        "--start_from",
        str(record.path),
        "--store",
        args.store,
        "--run",
        canonical(run),
        "--asked_by",
        "resume_training",
    ]
    if is_branch:
        command += ["--base", published(record.spec["base"], args.store), "--output", output_of(record, resumption)]
    return command


def data_of(record: Record) -> str:
    """The folder of the text. What is written beside a checkpoint is not trusted with a place outside the project."""
    if not isinstance(record.data, str) or Path(record.data).is_absolute() or ".." in Path(record.data).parts:
        raise Refusal(
            f"{record.path}: its data is {record.data!r}, outside this project; train_base.py --start_from it"
        )
    return record.data


def output_of(record: Record, resumption: Resumption) -> str:
    """Where a branch is published: where it would have been, if that is an experiment's folder and it is the same branch."""
    wanted = record.asked_by.get("name") if resumption.hash == record.hash else None
    if wanted and is_experiment(wanted):
        return wanted
    output = paths.experiment(f"resumed_{resumption.hash[:8]}", resumption.spec.domain or "general")
    if not is_experiment(output):
        raise Refusal(f"{record.path}: its domain is {resumption.spec.domain!r}, which is no folder's name")
    if wanted:
        cli.say(f"{record.path}: asked for {wanted!r}, which is no experiment's folder; published in {output}")
    return output


def is_experiment(folder: object) -> bool:
    """Whether it is experiments/<prefix>/<unit>."""
    top, *names = folder.split("/") if isinstance(folder, str) else [""]
    return top == "experiments" and len(names) == 2 and all(map(is_name, names))


def published(base: str, store: str) -> str:
    """The path of a branch's trunk, handed out by the store where it is not published here."""
    model = Path(paths.base_model(require_hash(base)))
    if not model.exists() and stored(store, base).is_whole():
        stored(store, base).publish_base(model, paths.base_metadata(model))
    return str(model)


def parse():
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", help="the file to go on from (default: the newest of an unfinished training)")
    parser.add_argument("--max-steps", dest="max_steps", type=int, help="another budget, in steps from the start")
    parser.add_argument("--batch-size", dest="batch_size", type=int, help="another global batch, in windows")
    cli.add_store_flag(parser)
    cli.add_run_settings(parser.add_argument_group("how it runs (default: as before, on all GPUs there are)"))
    args = parser.parse_args()
    for name in ("max_steps", "batch_size"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise Refusal(f"--{name.replace('_', '-')}: {value} needs a whole number of at least 1")
    return args


if __name__ == "__main__":
    cli.run(main)
