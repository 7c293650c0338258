#!/usr/bin/env python
"""Gather the results of a study: summary.csv, table.txt and figure.svg, all in the folder of --output.

After a failed run, with --partial: of what is there.
The table begins with who is missing and why; missing.csv has all of them.
"""

import csv
import io
from dataclasses import astuple
from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.missing import missing_of, told, without
from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.store.files import write_atomically
from rootstock.study import paths
from rootstock.study.plan import Plan
from rootstock.study.problems import StudyError
from rootstock.study.reading import read_file


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--study", required=True, type=Path, help="file with the study as JSON")
    parser.add_argument(
        "--output", required=True, type=cli.new_file, help="where summary.csv goes; the rest lies beside it"
    )
    parser.add_argument("--partial", action="store_true", help="of what is there, where a run failed")
    args = parser.parse_args()
    from rootstock.results.summary import summary_of

    output = Path(args.output)
    plan = plan_content(content_of_workflow([str(args.study)], None))
    if not plan.experiments:
        return of_bases(plan, output)
    preface = ""
    if args.partial:
        plan, preface = what_is_there(plan, output.with_name("missing.csv"))
    report = plan.study.task.reporter()
    summary = summary_of(plan, report.result_columns)
    files = (Path(paths.BASELINE.format(study=plan.study.name, name=name)) for name in plan.baselines)
    table = preface + report.render(summary, [row for file in files for row in read_file(file)])
    write_atomically(output.with_name("table.txt"), table.encode())
    report.draw(summary, output.with_name("figure.svg"))
    write_atomically(output, summary.to_csv(index=False).encode())
    cli.say(table)
    return 0


def of_bases(plan: Plan, output: Path) -> int:
    """The same files, where base models are all that a study trains."""
    from rootstock.results.bases import draw_bases, render_bases, summary_of_bases

    summary = summary_of_bases(plan)
    table = render_bases(summary)
    write_atomically(output.with_name("table.txt"), table.encode())
    draw_bases(summary, output.with_name("figure.svg"))
    write_atomically(output, summary.to_csv(index=False).encode())
    cli.say(table)
    return 0


def what_is_there(plan: Plan, list_of_missing: Path) -> tuple[Plan, str]:
    """The plan without what is missing, and what to say of that; `StudyError` says it where nothing is left."""
    missing = missing_of(plan)
    with io.StringIO(newline="") as lines:
        csv.writer(lines).writerows([("who", "path", "why"), *map(astuple, missing)])
        write_atomically(list_of_missing, lines.getvalue().encode())
    left = without(plan, missing)
    if not left.experiments:
        raise StudyError(told(missing, plan).splitlines())
    return left, told(missing, plan) + "\n\n"


if __name__ == "__main__":
    cli.run(main)
