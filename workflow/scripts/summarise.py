#!/usr/bin/env python
"""Gather the results of a study: summary.csv, table.txt and accuracy.svg, all in the folder of --output."""

import json
from pathlib import Path

from rootstock import cli
from rootstock.planning import plan_content
from rootstock.study import paths


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--study", required=True, help="the study as JSON")
    parser.add_argument("--output", required=True, help="where summary.csv goes; the other files lie beside it")
    args = parser.parse_args()
    from rootstock.results.figure import draw
    from rootstock.results.summary import summary_of
    from rootstock.results.table import baseline_table, render
    from rootstock.store.files import write_atomically

    plan = plan_content(json.loads(args.study))
    summary = summary_of(plan)
    baselines = [paths.BASELINE.format(study=plan.study.name, name=name) for name in plan.baselines]
    output = Path(args.output)
    table = render(summary, baseline_table(baselines))
    write_atomically(output.with_name("table.txt"), table.encode())
    draw(summary, output.with_name("accuracy.svg"))
    write_atomically(output, summary.to_csv(index=False).encode())
    cli.say(table)
    return 0


if __name__ == "__main__":
    cli.run(main)
