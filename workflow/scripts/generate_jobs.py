#!/usr/bin/env python
"""Show what a study will train and who shares what; optionally write it as two flat job lists."""

import argparse
import json
from functools import partial
from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.checking import check_all, in_store
from rootstock.controller.code import Training, code_notes, of_other_code, require_code_of, to_begin
from rootstock.controller.planning import analysis, content_of_workflow, headline, plan_content, require_bases
from rootstock.study.fields import readable
from rootstock.study.plan import Plan, job_lists
from rootstock.study.problems import Refusal, StudyError, refusals
from rootstock.study.reading import text_of
from rootstock.study.schema import study_schema
from rootstock.study.tables import with_tables
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--configfile", default="config/config.yaml", help="a study (.yaml) or a flat job list (.json)")
    parser.add_argument("--config", nargs="+", metavar="KEY=VALUE", help="values on top of the study, as Snakemake's")
    parser.add_argument(
        "--check", action="store_true", help="read the data and build the models as jobs would; nothing is trained"
    )
    parser.add_argument("--json", action="store_true", help="the analysis for programs")
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="write base_training_jobs.json and finetune_jobs.json here"
    )
    parser.add_argument("--task", action="store_true", help="only check the study, and print the name of its task")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of a study and stop")
    parser.add_argument(
        "--keys", type=Path, metavar="F", help="write the tables of keys between the marks of F and stop"
    )
    args = parser.parse_args()
    if args.schema:
        print(json.dumps(study_schema(TASKS), indent=1))
        return 0
    if args.keys:
        args.keys.write_text(with_tables(text_of(args.keys), TASKS), encoding="utf-8")
        return 0
    plan = plan_content(content_of_flags(args))
    if not plan.study.train_bases:
        require_bases(plan)
    if args.task:
        print(readable(plan.study.task.name))
        return 0
    other_code = of_other_code(plan)
    plan.notes += code_notes(plan, other_code)
    if args.check:
        tell_checked(plan, other_code)
        return 0
    report = analysis(plan)
    cli.say(json.dumps(report, indent=1) if args.json else shown(report, plan))
    if args.output_dir:
        from rootstock.store.files import write_json

        bases, finetunes = job_lists(plan)
        write_json(args.output_dir / "base_training_jobs.json", bases)
        write_json(args.output_dir / "finetune_jobs.json", finetunes)
    return 0


def content_of_flags(args: argparse.Namespace) -> dict:
    """The study that is meant, as the workflow would read it."""
    config = config_of(args.config) if args.config else {}
    if args.configfile.endswith(".json"):
        return content_of_workflow([], config | {"jobs": args.configfile})
    return content_of_workflow([args.configfile], config)


def config_of(values: list[str]) -> dict:
    """`--config` as Snakemake reads it, which is slow to load."""
    from snakemake.cli import parse_config

    try:
        return parse_config(values)
    except ValueError as error:
        raise Refusal(f"--config: {error}") from None


def tell_checked(plan: Plan, other_code: dict[str, Training]) -> None:
    """A table of what the trainings will read, and `ok`; or, as `StudyError`, all that their jobs would refuse."""
    found = check_all(plan)
    print(cli.printable("\n".join([*headline(plan), *found.table, in_store(plan, other_code)])))
    if faults := [*found.faults, *refusals([partial(require_code_of, plan, other_code, to_begin(plan))])]:
        raise StudyError(faults)
    print("ok")


def shown(report: dict, plan: Plan) -> str:
    """The analysis as a person reads it."""
    unit = plan.study.task.unit_word
    bases, alone = report["base_models"], report["base_trainings_without_sharing"]
    saved = f" instead of {alone}: {alone - bases} base trainings saved" if alone > bases else ""
    lines = [
        f"study {report['study']} ({report['task']})",
        f"  {report['experiments']} experiments: {report['fine_tunes']} fine-tunes, "
        f"{report['experiments'] - report['fine_tunes']} measurements of a base model; {report[f'{unit}s']} {unit}s",
        f"  {bases} base model{'s' * (bases != 1)}{saved}",
    ]
    if saved:
        lines.append(f"  base compute saved: {report['base_compute_saved_pct']:.1f} %")
    lines += [f"  note: {note}" for note in report["notes"]]
    if plan.bases:
        lines += ["", "base model         experiments  shared by"]
    for name, sharing in report["sharing"].items():
        lines.append(
            f"{name}  {sharing['experiments']:>11}  {', '.join(sharing['units'][:4])}{' …' if len(sharing['units']) > 4 else ''}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
