#!/usr/bin/env python
"""Say what a model or checkpoint file holds, whether it is whole and whether it loads. Code in it is never run.

Exit status 1 where something is wrong with it.
"""

import json
from pathlib import Path

from rootstock import cli
from rootstock.machine.private import opened
from rootstock.store.inventory import sizes_text
from rootstock.study.identity import sha256_of
from rootstock.study.problems import Refusal


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("file", type=Path, help="a .pt file: model, best model, base model or checkpoint")
    args = parser.parse_args()
    if args.file.is_dir():
        raise Refusal(f"{args.file}: is a folder; name a .pt file in it")
    from rootstock.engine.files import load
    from rootstock.tasks.language_model.generate import load_model_from_checkpoint

    with opened(args.file) as file:
        content = load(file)  # first: a damaged file is told as such
        said = recorded(args.file, sha256_of(file))
    model, config = load_model_from_checkpoint(args.file, "cpu")
    parts = sorted(name for name in content if name not in ("model", "spec", "tokenizer"))
    cli.say(f"{args.file}: {sizes_text(args.file.stat().st_size)}, loads; its sha256 {said}")
    cli.say(str(config))
    cli.say(f"{sum(p.numel() for p in model.parameters())} parameters, vocabulary {model.vocab_size}, {config.shape!r}")
    cli.say(f"beside the weights: {', '.join(parts)}")
    if "optimizer" in content:
        cli.say(f"can be trained on: resume_training.py --checkpoint {args.file}")
    else:
        cli.say("cannot be trained on: it holds no state of an optimizer")
    cli.say(json.dumps(config.spec, indent=1))
    return 0


def recorded(file: Path, found: str) -> str:
    """How the file's sha256 compares to the one written down beside it; a `Refusal` where it differs."""
    beside = {
        file.with_suffix(".json"): "sha256",
        file.with_name("metadata.json"): "state_sha256" if file.name == "state.pt" else "model_sha256",
        file.with_name(f"{file.stem}_metadata.json"): "model_sha256",
    }
    for description, name in beside.items():
        if description.exists():
            if json.loads(description.read_text()).get(name) != found:
                raise Refusal(f"{file}: damaged, its sha256 is not the one recorded in {description}")
            return "is the recorded one"
    return "is recorded nowhere beside it"


if __name__ == "__main__":
    cli.run(main)
