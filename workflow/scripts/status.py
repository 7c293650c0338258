#!/usr/bin/env python
"""Show how far a study is: what waits, runs (where, how far), is done or failed, and the time left.

Without a run under way it says so.

It reads files only, so it runs on any machine that sees the project:
    status.py                                     the default study
    status.py --configfile config/studies/x.yaml --watch
    status.py --follow 59a7daeb5b882156           the log of one job, by its hash or <prefix>/<unit>
"""

import textwrap
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rootstock.commands import cli
from rootstock.controller.counting import clock
from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.controller.status import JobStatus, counted, follow, study_status
from rootstock.controller.turns import is_under_way
from rootstock.study import paths
from rootstock.study.problems import Refusal, nearest


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--configfile", nargs="*", default=[], help="the study (default: config/config.yaml)")
    parser.add_argument("--jobs", help="a flat job list as the study")
    parser.add_argument("--watch", action="store_true", help="keep watching until nothing is left to do; Ctrl-C leaves")
    parser.add_argument("--follow", metavar="JOB", help="show the log of a job as it grows")
    args = parser.parse_args()
    plan = plan_content(content_of_workflow(args.configfile, {"jobs": args.jobs} if args.jobs else {}))
    if args.follow:
        for line in follow(_job(args.follow, study_status(plan))):
            cli.say(line)
        return 0
    console = Console(soft_wrap=True)
    width = console.width if console.is_terminal else None
    if not args.watch:
        console.print(view(plan.study.name, study_status(plan), width))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            jobs = study_status(plan)
            live.update(view(plan.study.name, jobs, width), refresh=True)
            if all(job.state == "done" for job in jobs):
                return 0
            time.sleep(2)


def _job(name: str, jobs: list[JobStatus]) -> JobStatus:
    """A job by its name or folder; a unit may be named as its study names it."""
    prefix, _, unit = name.removeprefix("experiments/").rpartition("/")
    wanted = "/".join(filter(None, (prefix, paths.unit_folder(unit))))
    for job in jobs:
        if wanted == job.name:
            return job
    raise Refusal(f"--follow: {name!r} is no job of this study; {nearest(name, (job.name for job in jobs))}")


def view(study: str, jobs: list[JobStatus], width: int | None) -> Group:
    """A line of counts, the running jobs, and the end of each failed job's log; no line is wider than a terminal of `width`."""
    count = counted(jobs)
    left = f"; {count.told_left()}" if count.told_left() else ""
    if not is_under_way(study) and not count.of("running"):
        left = "; no run is under way" if count.of("done") < len(jobs) else ""
    running = [(job.name, job.where, clock(job.seconds), job.progress()) for job in jobs if job.state == "running"]
    failed = [_failed(job, width) for job in jobs if job.state == "failed"]
    head = _folded(f"{study}: {count.told()} of {len(jobs)}{left}", width)
    return Group(Text(head), *([_running(running, width)] if running else []), *map(Text, failed))


def _running(rows: list[tuple[str, ...]], width: int | None) -> Table | Text:
    """A table; where it is too wide, each job on a line and how it goes on another."""
    table = Table(box=None, pad_edge=False)
    for title in ("running", "where", "for", "how far"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    if width is None or Console(width=10_000).measure(table).maximum <= width:
        return table
    told = [line for name, *how in rows for line in (f"running {name}", f"  {', '.join(filter(None, how))}")]
    return Text("\n".join(_folded(line, width) for line in told))


def _failed(job: JobStatus, width: int | None) -> str:
    """A failed job: the last line of its log says why, those before it are cut."""
    *before, why = job.last_lines() or ["it left no word"]
    cut = [line if width is None else line[: width - 2] for line in before]
    return "\n".join([
        _folded(f"failed {job.name}, see {job.log}:", width),
        *(f"  {line}" for line in cut),
        _folded(f"  {why}", width),
    ])  # fmt: skip


def _folded(line: str, width: int | None) -> str:
    return line if width is None else textwrap.fill(line, width, subsequent_indent="    ", break_on_hyphens=False)


if __name__ == "__main__":
    cli.run(main)
