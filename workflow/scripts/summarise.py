#!/usr/bin/env python
"""Gather the results of a study: summary.csv, table.txt and figure.svg, all in the folder of --output."""

from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.study import paths
from rootstock.study.reading import read_file


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--study", required=True, type=Path, help="file with the study as JSON")
    parser.add_argument(
        "--output", required=True, type=cli.new_file, help="where summary.csv goes; the rest lies beside it"
    )
    args = parser.parse_args()
    from rootstock.results.summary import summary_of
    from rootstock.store.files import write_atomically

    output = Path(args.output)
    plan = plan_content(content_of_workflow([str(args.study)], None))
    report = plan.study.task.reporter()
    summary = summary_of(plan, report.result_columns)
    files = (Path(paths.BASELINE.format(study=plan.study.name, name=name)) for name in plan.baselines)
    table = report.render(summary, [row for file in files for row in read_file(file)])
    write_atomically(output.with_name("table.txt"), table.encode())
    report.draw(summary, output.with_name("figure.svg"))
    write_atomically(output, summary.to_csv(index=False).encode())
    cli.say(table)
    return 0


if __name__ == "__main__":
    cli.run(main)
