"""What the command-line scripts share: flags made from the fields of a study, and errors shown as plain lines."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_args

from ..machine.private import json_object
from ..study import paths
from ..study.fields import NAME_RULE, PATH_RULE, Section, at_home, is_name, is_path, is_text
from ..study.jobs import fields_of
from ..study.own import name_own
from ..study.parts import section_of
from ..study.problems import EXIT_INTERRUPTED, STOP_SIGNALS, Interrupted, Problems, Refusal, StudyError, nearest, show
from ..study.run import Run
from ..study.task import Task
from ..study.told import printable, told
from ..study.validate import is_list_field, read_section, words_of
from ..tasks.registry import TASKS


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main. Print a user's mistakes as lines, without a traceback, and exit with 1.

    A worker of torchrun ends without Python's clean-up; see `engine.distributed.world_of_environment`.
    """
    status = _status_of(main)
    gc.freeze()  # the process frees all memory: a last collection would cost a sixth of a short job's time
    if "RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status_of(main: Callable[[], int | None]) -> int:
    try:
        _require_text(sys.argv[1:])
        return main() or 0
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130
    except Interrupted as reason:
        for number in STOP_SIGNALS:  # a second signal does not change the exit status
            signal.signal(number, signal.SIG_IGN)
        if os.environ.get("RANK", "0") == "0":  # all processes of a training stop; only one prints why
            print(reason, file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        print(printable(told(error)), file=sys.stderr)
        return 1


def _require_text(words: list[str]) -> None:
    """Raise `Refusal` for the first word of a command line that is not UTF-8 text; name the flag before it."""
    for before, word in zip(["", *words], words, strict=False):
        if not is_text(word):
            flag = f"{before}: " if before.startswith("-") else ""
            raise Refusal(f"{flag}{os.fsencode(word)!r} is no text in UTF-8; write it in UTF-8")


def say(line: str) -> None:
    """Write a line to a job's log at once."""
    print(printable(line), flush=True)


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one line, with the nearest known flag."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        if unknown.startswith("-"):
            message = f"{unknown}: unknown flag; {nearest(unknown, self._option_string_actions)}"
            message = message if "did you mean" in message else f"{unknown}: unknown flag"
        self.exit(1, f"{self.prog}: {message}; see --help\n")


def parser(description: str | None) -> argparse.ArgumentParser:
    return Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="%(prog)s [flags]",
    )


def safe_name(text: str) -> str:
    """A flag's value that becomes the name of a file or folder."""
    if text and not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r} needs {NAME_RULE}")
    return text


def path_text(text: str) -> str:
    """A flag's value that is a path."""
    if not is_path(text) or at_home(text).startswith("~"):
        raise argparse.ArgumentTypeError(f"{show(text)} needs {PATH_RULE}")
    return at_home(text)


def store_folder(text: str) -> str:
    """A flag's value that is a folder of trained models."""
    if not text.strip() or Path(path_text(text)) == Path():
        raise argparse.ArgumentTypeError(f"{text!r} is the project itself; give a folder, such as {paths.STORE}")
    return path_text(text)


def new_file(text: str) -> str:
    """A flag's value that is a file to write. A folder is rejected before anything is computed."""
    if not text.strip() or Path(path_text(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; give the name of a file")
    return path_text(text)


def new_folder(text: str) -> str:
    """A flag's value that is a folder to write."""
    if not text.strip() or ((folder := Path(path_text(text))).exists() and not folder.is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is no folder; give the name of one")
    return path_text(text)


def count(text: str) -> int:
    """A flag's value that is a number of things."""
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{show(text)} needs a whole number of at least 1")
    return int(text)


def json_flag(text: str) -> dict[str, Any]:
    """A flag's value that is a JSON object."""
    try:
        return json_object(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{show(text)} cannot be read: {error}") from None


def add_store_flag(parser: argparse._ActionsContainer) -> None:
    """Add the flag for the folder of trained models."""
    parser.add_argument(
        "--store", type=store_folder, default=paths.STORE, help=f"folder of trained models (default: {paths.STORE})"
    )


def add_warm_flag(parser: argparse._ActionsContainer) -> None:
    """Add --warm to a script without other run settings. The script's first lines have already acted on it."""
    parser.add_argument("--warm", action=argparse.BooleanOptionalAction, help=Run.model_fields["warm"].description)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for where things lie and how they run; none of them changes what is learned."""
    group = parser.add_argument_group("how it runs (never part of the hash)")
    add_store_flag(group)
    group.add_argument("--expect", type=json_flag, default={}, help="what the data must be like, as JSON")
    group.add_argument("--asked_by", type=safe_name, default="", help="name of the study, for the records")
    add_run_settings(group)


def add_run_settings(group: argparse._ActionsContainer) -> None:
    """Add flags for the run settings: one for all as JSON, and one for each."""
    group.add_argument(
        "--run", type=json_flag, default={}, help="the run settings as JSON, as the workflow passes them"
    )
    for name, field in Run.model_fields.items():
        told = field.description or ""
        told += "" if "(default: " in told else f" (default: {field.default})"
        options: dict = {"default": argparse.SUPPRESS, "help": told}
        options |= {"action": argparse.BooleanOptionalAction} if field.annotation is bool else {"metavar": "VALUE"}
        options |= (
            {"nargs": "?", "const": True} if bool in get_args(field.annotation) else {}
        )  # --compile means --compile true
        group.add_argument(f"--{name}", **options)


def read_run(arguments: argparse.Namespace) -> Run:
    """The run settings of `--run` and, overriding them, of single flags. Raise `StudyError` if some are wrong."""
    problems, given = Problems(), dict(arguments.run)
    given |= {name: getattr(arguments, name) for name in Run.model_fields if hasattr(arguments, name)}
    run = read_section(Run, given, "run", problems)
    problems.raise_if_any()
    return run


def data_of(arguments: argparse.Namespace) -> str:
    """The data folder that goes with `--spec`. Raise `Refusal` if it is missing."""
    if not getattr(arguments, "data_path", None):
        raise Refusal("--data_path: missing; with --spec it says where the data lies")
    return path_text(arguments.data_path)


def add_setting_flags(parser: argparse.ArgumentParser, task: Task, sections: tuple[str, ...]) -> None:
    """Add a flag for every field of a flat job list that belongs to one of `sections`."""
    groups = {name: parser.add_argument_group(f"{name} settings") for name in sections}
    for name, (section, field) in fields_of(task).items():
        if section not in sections or field == "parent":
            continue  # a stage has no flag: train it first, with its own flags
        options = _unit_flag(task, field) if section == "unit" else _field_flag(section_of(task, section), field)
        groups[section].add_argument(f"--{name}", default=argparse.SUPPRESS, **options)
    if "data_path" not in fields_of(task):  # a task without data folders of users
        groups[sections[0]].add_argument("--data_path", metavar="VALUE", help="with --spec: where the data lies")


def _unit_flag(task: Task, field: str) -> dict[str, Any]:
    return {"help": task.unit_help[field], "metavar": "VALUE"}


def _field_flag(section: type[Section], field: str) -> dict[str, Any]:
    info = section.model_fields[field]
    options: dict[str, Any] = {"help": (info.description or "").replace("%", "%%")}
    if info.annotation in (bool, bool | None):
        return options | {"action": argparse.BooleanOptionalAction}
    return options | {"metavar": "VALUE"} | ({"nargs": "+"} if is_list_field(section, field) else {})


def job_of(arguments: argparse.Namespace, task: Task) -> dict[str, Any]:
    """The given flags as one job of a flat list."""
    job = {}
    for name, (section, field) in fields_of(task).items():
        if hasattr(arguments, name):
            value = getattr(arguments, name)
            is_word = (
                section != "unit" and isinstance(value, list) and value[0] in words_of(section_of(task, section), field)
            )
            job[name] = value[0] if is_word and len(value) == 1 else value
    return job


def spec_text(given: str) -> str:
    """The JSON of a spec, given as text or as the path of a file."""
    if given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Refusal(f"--spec: {show(given)} is neither JSON nor a readable file ({error})") from None


def add_task_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default=TASKS.names[0], help=f"what is trained (default: {TASKS.names[0]})")


class _OwnTask(argparse.Action):
    """Loads the task that a user names, so that files may name it as well."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        TASKS.find(values)
        setattr(namespace, self.dest, values)


def add_own_task_flag(
    parser: argparse._ActionsContainer, about: str = "a task of your own that the file may name"
) -> None:
    parser.add_argument("--task", action=_OwnTask, metavar="package.module:Class", help=about)


class _OwnClass(argparse.Action):
    """Records the network class that a user names, so that files may name it as well."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        name_own(values)
        setattr(namespace, self.dest, values)


def add_own_class_flag(parser: argparse._ActionsContainer) -> None:
    about = "a network of your own that a model file may name"
    parser.add_argument("--own_class", action=_OwnClass, nargs="?", metavar="package.module:Class", help=about)


def task_of(arguments: list[str]) -> Task:
    """The task that a command line or its `--spec` names, found before the task's flags are known."""
    try:
        return TASKS.find(task_name(arguments))
    except StudyError as error:
        flag = "--spec: " if any(word.partition("=")[0] == "--spec" for word in arguments) else "--"
        raise Refusal(f"{flag}{error}") from None


def task_name(arguments: list[str]) -> Any:
    """The name of that task, which may be unknown."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--task", default=TASKS.names[0])
    early.add_argument("--spec")
    known, _ = early.parse_known_args(arguments)
    if not known.spec:
        return known.task
    try:
        return json_object(spec_text(known.spec)).get("task", known.task)
    except ValueError:
        raise Refusal("--spec: is not the JSON object of a spec") from None
