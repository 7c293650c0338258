#!/usr/bin/env python
"""Write a trained model of the store as a folder in the form that others use; its export.json is written last."""

from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.planning import content_of_workflow
from rootstock.store.files import write_json
from rootstock.store.objects import stored
from rootstock.study.problems import Refusal
from rootstock.study.task import Task
from rootstock.tasks.code import require_code
from rootstock.tasks.reading import spec_of
from rootstock.tasks.registry import TASKS


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--hash", required=True, help="the model: a base model or a fine-tune")
    cli.add_store_flag(parser)
    cli.add_own_task_flag(parser)
    parser.add_argument("--data_path", help="the data folder of its training")
    parser.add_argument("--merge", action="store_true", help="a low-rank update as a whole model, merged into its base")
    parser.add_argument("--study", help="file with the study as JSON, for the record")
    parser.add_argument("--output", required=True, type=cli.new_folder, help="folder to write")
    args = parser.parse_args()
    kept = stored(args.store, args.hash)
    study = content_of_workflow([args.study], None) if args.study else {}
    if not kept.is_whole():
        raise Refusal(f"--hash: {args.hash} is not in {args.store}; base_models.py list shows what is")
    output = Path(args.output)
    with kept.opened() as files:
        task = TASKS.of_file(files.content["task"])
        require_code(files.content, kept.folder)
        exporter = task.exporter()
        if exporter is None:
            fix = "which has no other form; load its file as it is"
            raise Refusal(f"--hash: {args.hash} is a model of {task.name}, {fix}")
        if args.merge:
            study |= {merging(task): True}
        output.mkdir(parents=True, exist_ok=True)
        (output / "export.json").unlink(missing_ok=True)  # until it is whole again, it is not there
        exporter.export(files.model, files.content, args.data_path, study, output, cli.say)
    about = task.about(spec_of(files.content["spec"]))
    write_json(output / "export.json", {"hash": args.hash, "task": task.name, "training": about})
    cli.say(f"exported {args.hash} to {args.output}")
    return 0


def merging(task: Task) -> str:
    """The key of a study that asks for merged exports; `Refusal` where a task knows none."""
    if (key := "export_merged") not in task.scope_section.model_fields:
        raise Refusal(f"--merge: a model of {task.name} is whole as it is; leave it out")
    return key


if __name__ == "__main__":
    cli.run(main)
