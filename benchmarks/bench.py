#!/usr/bin/env python
"""Compare Rootstock with what people do without it, in pairs by turns: `make bench`, or `make bench BENCH=name` of

    steps      a step, an evaluation and an augmentation of the `test` network at the users' shape, beside the plain ones
    trainings  base models and fine-tunes at the users' shape: one process each, and without the starts
    long       the same at 50 epochs with `compile: auto`
    grid       the usual grid of 1,008 fine-tunes, beside scripts that share bases within a fold, and scripts that share none
    memory     one base training over 1 GB of windows, and five side by side

Numbers go to benchmarks/results.json and into the table of benchmarks/README.md. "Plain" is `plain.py`, or torch's own
operations in sequence.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import cases
from measuring import by_turns

HERE = Path(__file__).parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- of bench.py -->", "<!-- end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--full", action="store_true", help="trainings: 8 bases and 32 fine-tunes, not 2 and 8; grid: every fine-tune"
    )
    parser.add_argument("--folder", type=Path, help="where data and models go (default: a temporary folder)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(cases.CASES):
        sys.exit(f"BENCH: {', '.join(sorted(unknown))} unknown; choose {', '.join(cases.CASES)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.names or cases.CASES:
        results = {title: found for title, found in results.items() if found["case"] != name}
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for title, pair in cases.CASES[name](Path(folder), args.full).items():
                print(title, flush=True)
                results[title] = {"case": name, "cores": os.cpu_count(), **by_turns(pair, args.repeats)}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_table(results)


def write_table(results: dict) -> None:
    """Write the table of the README: ratios as least – median – most over repeats, and the least cost of a run."""
    lines = ["| what | ratio | least – median – most | least of each |", "|---|---|---|---|"]
    for title, found in results.items():
        least = ", ".join(f"{name} {_least(costs)}" for name, costs in found["costs"].items())
        for ratio, (low, middle, high) in found["ratios"].items():
            lines.append(f"| {title} | {ratio} | {low:.2f} – **{middle:.2f}** – {high:.2f} | {least} |")
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text("\n".join([before + BEGIN, *lines, END]) + rest.partition(END)[2])


def _least(costs: list[dict]) -> str:
    cpu, private = (min(cost[what] for cost in costs) for what in ("cpu", "private"))
    return f"{cpu:.3g} CPU s" + (f" and {private:.0f} MB private" if private else "")


if __name__ == "__main__":
    main()
