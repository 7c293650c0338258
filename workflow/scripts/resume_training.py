#!/usr/bin/env python
"""Resume a training, of any task: the newest unfinished one, or the one of --checkpoint F, then train to its end.

Unchanged it ends as if it had never stopped. Another --max-epochs, --max-steps or --batch-size, where the task allows
it, is another training with a hash of its own; what stays equal and what does not is printed before it starts.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from rootstock.commands import cli
from rootstock.machine.this import most_side_by_side
from rootstock.store.model_files import TRAIN_FIRST, ModelFile, described, model_files
from rootstock.store.objects import require_hash, store_of, stored
from rootstock.study import paths
from rootstock.study.fields import is_name
from rootstock.study.identity import is_beginning, with_whereabouts
from rootstock.study.own import require_named
from rootstock.study.problems import Refusal
from rootstock.study.resumption import Place, Resumption
from rootstock.study.run import Run
from rootstock.study.spec import FinetuneSpec
from rootstock.tasks.reading import spec_of
from rootstock.tasks.registry import TASKS

CHANGES = ("max_epochs", "max_steps", "batch_size")


def main() -> int:
    args = parse()
    changes = {name: value for name in CHANGES if (value := getattr(args, name)) is not None}
    chosen = args.checkpoint and chosen_file(args.checkpoint)
    store = args.store or (str(store_of(chosen)) if chosen else paths.STORE)
    found = [described(chosen, args.store)] if chosen else newest(store, bool(changes), args.checkpoint or "")
    file, state = whole_of(found)
    args.run = {name: value for name, value in file.run.items() if name not in ("sign_with", "trust")}
    args.gpus = gpus(args)
    run = cli.read_run(args)
    require_bounded(file, args)
    resumption = resumed(file, state, changes)
    about = TASKS.of_file(file.task).about(resumption.spec)
    cli.say(f"from {file.path}: {about}, step {file.step}; what is trained goes into {store}")
    for line in resumption.says:
        cli.say(line)
    if file.world_size != run.world_size:
        same = "the batches stay the same, losses up to the order of float sums"
        cli.say(f"processes: {file.world_size} become {run.world_size}; {same}")
    command = command_of(file, resumption, run, store) + (["--own_class", args.own_class] if args.own_class else [])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])  # one process: signals and exit status are the training's own


def chosen_file(given: str) -> Path | None:
    """The file of --checkpoint: in a folder of a model its model, which says how that continues; None for a hash or its beginning."""
    path = Path(given)
    if os.path.isdir(given):
        return next((path / name for name in ("best_model.pt", "model.pt") if (path / name).is_file()), path)
    return None if is_beginning(given) and not os.path.exists(given) else path


def newest(store: str, with_finished: bool, beginning: str = "") -> list[ModelFile]:
    """The checkpoints of the training that was written to last, the newest first; with changes a finished one too. Of trainings
    whose hash begins so."""
    kinds = ("checkpoint", "kept", "state") if with_finished else ("checkpoint", "kept")
    found = [file for file in model_files(store) if file.hash.startswith(beginning)]
    if beginning and len({file.hash for file in found}) != 1:
        names = len({file.hash for file in found})
        raise Refusal(
            f"--checkpoint: {beginning!r} is no file, and names {names} trainings of {store}; see list_checkpoints.py"
        )
    finished = {file.hash for file in found if file.kind in ("model", "state")}
    usable = [file for file in found if file.kind in kinds and (file.kind == "state" or file.hash not in finished)]
    if usable:
        others = {file.hash for file in usable} - {usable[0].hash}
        if others:
            cli.say(
                f"{usable[0].hash} was written last, of {len(others) + 1} that could resume; --checkpoint names another"
            )
        return [file for file in usable if file.hash == usable[0].hash]
    if finished:
        what = f"{beginning} is" if beginning else "every training here is"
        fix = "give --max-steps or --max-epochs to train one further, or name a --checkpoint"
        raise Refusal(f"{what} finished; {fix}")
    raise Refusal(f"{store}: holds no checkpoint; {TRAIN_FIRST}")


def whole_of(files: list[ModelFile]) -> tuple[ModelFile, dict[str, Any]]:
    """The first of these files that is whole, and what it holds; each that is damaged is named and passed over."""
    from rootstock.engine.checkpoint import read_state

    for file in files:
        try:
            return file, read_state(file.path)
        except Refusal as reason:
            if file is files[-1]:
                raise
            cli.say(f"passed over: {reason}")
    raise AssertionError  # there is one


def gpus(args: argparse.Namespace) -> int:
    """All GPUs there are, unless told otherwise; `Refusal` where there are not so many."""
    import torch

    there = torch.cuda.device_count()
    given = getattr(args, "gpus", None)
    if given is not None and not str(given).isdecimal():
        raise Refusal(f"--gpus: {given} needs a whole number")
    wanted = there if given is None else int(given)
    if wanted > there:
        raise Refusal(f"--gpus: {wanted} are not there; this machine has {there}; use --processes on CPUs")
    return wanted


def require_bounded(file: ModelFile, args: argparse.Namespace) -> None:
    """`Refusal` where a file, which may be a stranger's, asks for more threads or processes than this machine has use for."""
    for name in ("threads", "processes"):
        asked, most = file.run.get(name) or 1, most_side_by_side()
        if not hasattr(args, name) and asked > most:
            raise Refusal(f"{file.path}: asks for {name}: {asked}, and {most} are the most here; give --{name}")


def resumed(file: ModelFile, state: dict[str, Any], changes: dict[str, int]) -> Resumption:
    """The training that continues from a file, whose content is `state`."""
    spec = spec_of(file.spec)
    for name in changes:
        if name not in type(spec).model_fields:
            other = next(own for own in CHANGES if own in type(spec).model_fields)
            raise Refusal(f"{flag(name)}: a training of {file.task} has no such setting; give {flag(other)}")
    changed = {name: value for name, value in changes.items() if value != getattr(spec, name)}
    try:
        place = Place(str(file.path), file.hash, file.step, state["epoch"], state["batch"], file.kind == "state")
    except (KeyError, TypeError):
        raise Refusal(f"{file.path}: holds no state of a training; see check_checkpoint.py") from None
    require_named(spec.own_class)
    try:
        return TASKS.of_file(file.task).resumed(spec, place, changed)
    except Refusal as refusal:  # in the words of the spec
        name, _, reason = str(refusal).partition(":")
        raise Refusal(f"{flag(name) if name in CHANGES else name}:{reason}") from None


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def command_of(file: ModelFile, resumption: Resumption, run: Run, store: str) -> list[str]:
    """The training command, as the workflow writes them."""
    spec = resumption.spec
    is_finetune = isinstance(spec, FinetuneSpec)
    script = Path(__file__).with_name("train_finetune.py" if is_finetune else "train_base.py")
    flags = {
        "spec": with_whereabouts(spec),
        "data_path": data_of(file),
        "start_from": str(file.path),
        "store": store,
        "run": run.told,
        "asked_by": "resume_training",
    }
    if is_finetune:
        flags["output"] = output_of(file, resumption)
    if spec.starts_from:
        flags["base" if is_finetune else "parent_model"] = published(spec.starts_from, store)
    return [str(script), *(word for name, value in flags.items() for word in (f"--{name}", value))]


def data_of(file: ModelFile) -> str:
    """The folder of its data. What is written beside a checkpoint is not trusted with a place outside the project."""
    if not isinstance(file.data, str) or Path(file.data).is_absolute() or ".." in Path(file.data).parts:
        raise Refusal(f"{file.path}: its data is {file.data!r}, outside this project; train_base.py --start_from it")
    return file.data


def output_of(file: ModelFile, resumption: Resumption) -> str:
    """Where a fine-tune is published: where it would have been, if that is an experiment's folder and it is the same one."""
    before = file.asked_by.get("name")
    if isinstance(before, str) and is_experiment(before):
        unit = before.rpartition("/")[2]
        return before if resumption.hash == file.hash else paths.experiment(f"resumed_{resumption.hash[:8]}", unit)
    output = paths.experiment(f"resumed_{resumption.hash[:8]}", "resumed")
    if before:
        cli.say(f"{file.path}: asked for {before!r}, which is no experiment's folder; published in {output}")
    return output


def is_experiment(folder: str) -> bool:
    """Whether it is experiments/<prefix>/<unit>."""
    top, *names = folder.split("/")
    return top == "experiments" and len(names) == 2 and all(map(is_name, names))


def published(base: str, store: str) -> str:
    """The path of a base model, handed out by the store where it is not published here."""
    model = Path(paths.base_model(require_hash(base)))
    if not model.exists() and stored(store, base).is_whole():
        stored(store, base).publish_base(model, paths.base_metadata(model))
    return str(model)


def parse() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        help="a file to resume from, or the hash of a training or its beginning (default: the newest unfinished one)",
    )
    parser.add_argument("--max-epochs", type=int, help="another budget, in epochs from the start")
    parser.add_argument("--max-steps", type=int, help="another budget, in steps from the start")
    parser.add_argument("--batch-size", type=int, help="another global batch")
    parser.add_argument(
        "--store",
        type=cli.store_folder,
        help=f"folder of trained models (default: where --checkpoint lies, else {paths.STORE})",
    )
    cli.add_own_task_flag(parser)
    cli.add_own_class_flag(parser)
    cli.add_run_settings(parser.add_argument_group("how it runs (default: as before, on all GPUs there are)"))
    args = parser.parse_args()
    for name in CHANGES:
        if (value := getattr(args, name)) is not None and value < 1:
            raise Refusal(f"{flag(name)}: {value} needs a whole number of at least 1")
    return args


if __name__ == "__main__":
    cli.run(main)
