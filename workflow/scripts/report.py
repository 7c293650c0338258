#!/usr/bin/env python
"""Make the page of a study: report.html, and beside it its figures and the numbers of each figure and table.

After a failed run, with --partial: of what is there.
"""

from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.planning import content_of_workflow, plan_content


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--study", required=True, type=Path, help="file with the study as JSON")
    parser.add_argument(
        "--output", required=True, type=cli.new_file, help="where report.html goes; the rest lies beside it"
    )
    parser.add_argument("--partial", action="store_true", help="of what is there, where a run failed")
    args = parser.parse_args()
    from rootstock.controller.study_page import page_of
    from rootstock.results.page import write_page

    output = Path(args.output)
    plan = plan_content(content_of_workflow([str(args.study)], None))
    write_page(page_of(plan, output.parent, args.partial), output)
    cli.say(f"page: {output}")
    return 0


if __name__ == "__main__":
    cli.run(main)
