#!/usr/bin/env python
"""Talk to a trained language model: the newest, or the one named by a file, an experiment's folder or a hash.

interactive_inference.py                                  a session with the newest model; help shows its commands
interactive_inference.py experiments/X/cells --top-p 1    with a branch
interactive_inference.py --prompt "lung cancer:"          one text, no terminal needed; or prompts on a pipe, one a line
"""

import sys

from rootstock.commands import cli

TRAIN_FIRST = "train one first: make run STUDY=config/studies/language_model_quick_test.yaml"


def main() -> int:
    args = parse()
    from rootstock.store.model_files import find_file
    from rootstock.tasks.language_model.chat import (
        Session,
        converse,
        piped_lines,
        read_settings,
        typed_lines,
        write_now,
    )
    from rootstock.tasks.language_model.generate import load_model_from_checkpoint
    from rootstock.tasks.language_model.sampling import Sampling

    settings = read_settings({name: getattr(args, name) for name in Sampling.model_fields})
    path = find_file(
        args.store, args.model, ("model", "checkpoint", "kept"), "language_model", "language model", TRAIN_FIRST
    )
    model, config = load_model_from_checkpoint(path, args.device, args.store)
    print(cli.printable(f"{config}, {model.embedding.weight.device}"), file=sys.stderr)
    session = Session(model, config, settings, write_now)
    if args.prompt is not None:
        session.go_on(args.prompt)
    else:
        converse(session, typed_lines() if sys.stdin.isatty() else piped_lines())
    return 0


def parse():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "model", nargs="?", help="a model or checkpoint file, an experiment's folder, or a hash (default: the newest)"
    )
    parser.add_argument("--prompt", help="go on from this and end")
    parser.add_argument("--max-length", dest="max_length", metavar="VALUE", help="new tokens at most (default: 100)")
    parser.add_argument("--temperature", metavar="VALUE", help="0 takes the likeliest token (default: 0.8)")
    parser.add_argument(
        "--top-k", dest="top_k", metavar="VALUE", help="only the likeliest tokens; 0: all (default: 50)"
    )
    parser.add_argument(
        "--top-p", dest="top_p", metavar="VALUE", help="only those of this probability together (default: 0.9)"
    )
    parser.add_argument("--seed", metavar="VALUE", help="the same seed gives the same text (default: none)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or a number (default: auto)")
    cli.add_store_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
