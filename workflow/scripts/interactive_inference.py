#!/usr/bin/env python
"""Talk to a trained language model: the newest, or the one named by a file, an experiment's folder or a hash.

interactive_inference.py                                  a session with the newest model; help shows its commands
interactive_inference.py experiments/X/cells --top-p 1    with a branch
interactive_inference.py --prompt "lung cancer:"          one text, no terminal needed; or prompts on a pipe, one a line
interactive_inference.py --json-lines < in > out          {"prompt": …} a line, perhaps with an id and settings; texts likewise
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
    if args.json_lines:
        return answer_lines(model, config, settings, args)
    session = Session(model, config, settings, write_now, args.samples)
    if args.prompt is not None:
        session.go_on(args.prompt)
    else:
        converse(session, typed_lines() if sys.stdin.isatty() else piped_lines())
    return 0


def answer_lines(model, config, settings, args) -> int:
    """Texts for the prompts on stdin; 1 where a line had a fault, which is told in its place."""
    from rootstock.tasks.language_model.chat import write_now
    from rootstock.tasks.language_model.json_lines import Batches, as_line

    batches = Batches(model, config.tokenizer, settings, args.samples, args.batch_size)
    for answer in batches.answers(sys.stdin.buffer):
        write_now(as_line(answer))
    return 1 if batches.faults else 0


def parse():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "model", nargs="?", help="a model or checkpoint file, an experiment's folder, or a hash (default: the newest)"
    )
    parser.add_argument("--prompt", help="continue this text, then end")
    parser.add_argument("--max-length", dest="max_length", metavar="VALUE", help="new tokens at most (default: 100)")
    parser.add_argument("--temperature", metavar="VALUE", help="0 takes the likeliest token (default: 0.8)")
    parser.add_argument(
        "--top-k", dest="top_k", metavar="VALUE", help="only the likeliest tokens; 0: all (default: 50)"
    )
    parser.add_argument(
        "--top-p", dest="top_p", metavar="VALUE", help="only those of this probability together (default: 0.9)"
    )
    parser.add_argument("--seed", metavar="VALUE", help="the same seed gives the same text (default: none)")
    parser.add_argument(
        "--repetition-penalty",
        dest="repetition_penalty",
        metavar="VALUE",
        help="above 1 makes what stands there already less likely (default: 1)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help="end the text before this; may be given again; \\n is a line end (default: none)",
    )
    parser.add_argument(
        "--samples", type=cli.count, default=1, help="texts for each prompt, of one seed after another (default: 1)"
    )
    parser.add_argument("--json-lines", action="store_true", help="read and write JSON lines")
    parser.add_argument("--batch-size", type=cli.count, default=16, help="texts at a time of JSON lines (default: 16)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or a number (default: auto)")
    cli.add_store_flag(parser)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
