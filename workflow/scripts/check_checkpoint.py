#!/usr/bin/env python
"""Say what a model or checkpoint file of any task holds, whether it is whole and whether it loads.

Code in it is never run.

Exit status 1 where something is wrong with it.
"""

import json
import os
from pathlib import Path

from rootstock.commands import cli
from rootstock.machine.private import opened
from rootstock.store.inventory import sizes_text
from rootstock.store.model_files import after_its_end, find_file, in_store, recorded_sha256, require_recorded
from rootstock.study.identity import is_beginning, sha256_of
from rootstock.tasks.code import require_code
from rootstock.tasks.reading import spec_of
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    about = "a .pt file (model, base model, checkpoint), an experiment's folder, or the hash of a stored model or its beginning"
    parser.add_argument("file", help=about)
    cli.add_store_flag(parser)
    cli.add_own_task_flag(parser)
    cli.add_own_class_flag(parser)
    args = parser.parse_args()
    args.file = file_of(args.file, args.store)
    from rootstock.engine.models import count_parameters
    from rootstock.tasks.loading import content_of, whole

    with opened(*in_store(args.file, args.store)) as file:
        content = content_of(file)  # first: a damaged file is told as such
        vouched = recorded(args.file, content["hash"], sha256_of(file), args.store)
    spec = spec_of(content["spec"])
    task = TASKS.of_file(spec.task)
    require_code(content, args.file)
    model = task.trainer().load_model(whole(content, args.file, args.store), str(args.file))
    parts = sorted(name for name in content if name not in ("model", "spec", "tokenizer"))
    cli.say(f"{args.file}: {sizes_text(args.file.stat().st_size)}, loads; its sha256 {vouched}")
    step = f", step {content['step']}" if "step" in content else ""
    cli.say(f"{task.name}, {task.about(spec)}, {content['hash']}{step}: {count_parameters(model)} parameters")
    cli.say(f"beside the weights: {', '.join(parts)}")
    if "base_weights" in content:
        cli.say(f"holds only what changed of its base model {content['spec']['base']}, which is here and verified")
    if "optimizer" in content:
        cli.say(f"can be trained on: resume_training.py --checkpoint {args.file}")
    else:
        cli.say(f"cannot be trained on: it is a finished model, {after_its_end(args.file, args.store)}")
    cli.say(json.dumps(content["spec"], indent=1))
    return 0


def file_of(given: str, store: str) -> Path:
    """The file that is meant: itself, that of a folder, or that of a hash or its beginning."""
    is_file = not is_beginning(given) and not os.path.isdir(given)
    return Path(given) if is_file else find_file(store, given, ("model", "checkpoint", "kept"))


def recorded(file: Path, name: str, found: str, store: str) -> str:
    """How the sha256 `found` compares to the one written down; `Refusal` where it differs."""
    vouched = recorded_sha256(file, name, store)
    if vouched is None:
        return "is recorded nowhere"
    require_recorded(file, found, vouched)
    return "is the recorded one"


if __name__ == "__main__":
    cli.run(main)
