#!/usr/bin/env python
"""Make the page of a study: report.html, and beside it its figures and the numbers of each figure and table.

After a failed run, with --partial: of what is there.
With --compare A.yaml B.yaml: of two studies of one task, whose results are there.
"""

import argparse
from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.study.plan import Plan
from rootstock.study.problems import Refusal


def main() -> int:
    args = read_flags()
    from rootstock.controller.study_page import write_report
    from rootstock.controller.two_pages import page_of_two, place_of
    from rootstock.results.page import write_page

    if args.compare:
        plans = plan_of(args.compare[0]), plan_of(args.compare[1])
        output = Path(args.output) if args.output else place_of(plans)
        write_page(page_of_two(plans), output)
    else:
        output = Path(args.output)
        write_report(plan_of(args.study), output, args.partial)
    cli.say(f"page: {output}")
    return 0


def read_flags() -> argparse.Namespace:
    parser = cli.parser(__doc__)
    parser.add_argument("--study", type=Path, help="file with the study")
    parser.add_argument("--output", type=cli.new_file, help="where report.html goes; the rest lies beside it")
    parser.add_argument("--partial", action="store_true", help="of what is there, where a run failed")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="files of two studies; a gain is what B has more"
    )
    args = parser.parse_args()
    if bool(args.compare) == bool(args.study) or (args.compare and args.partial):
        raise Refusal(
            "--study: give one study, as --study F --output results/<study>/report.html, or two as --compare A B"
        )
    if args.study and not args.output:
        raise Refusal("--output: missing; give results/<study>/report.html")
    return args


def plan_of(study: Path) -> Plan:
    return plan_content(content_of_workflow([str(study)], None))


if __name__ == "__main__":
    cli.run(main)
