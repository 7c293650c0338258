"""What the command-line scripts share: flags made from the fields of a study, and errors as plain lines."""

import argparse
import errno
import gc
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ..study import paths
from ..study.fields import NAME_RULE, Section, is_name
from ..study.jobs import fields_of
from ..study.parts import section_of
from ..study.problems import EXIT_INTERRUPTED, Interrupted, Problems, Refusal, StudyError, nearest
from ..study.run import Run
from ..study.task import Task
from ..study.validate import is_list_field, read_section, words_of
from ..tasks.registry import TASKS

FIXES = {
    errno.ENOSPC: "; free some space and run again: a training goes on from its last whole checkpoint",
    errno.EDQUOT: "; free some of your quota and run again: a training goes on from its last whole checkpoint",
    errno.EROFS: "; name a store and a project folder that can be written",
    errno.EACCES: "; name a store and a project folder that you may read and write",
}


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main; a user's mistake is printed as lines and exits with 1, without a traceback.

    A worker of torchrun ends without Python's clean-up, see `engine.distributed.world_of_environment`.
    """
    status = _status_of(main)
    gc.freeze()  # all memory goes with the process: a last collection, a sixth of a short job's time, frees nothing more
    if "RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _status_of(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except (StudyError, Refusal) as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 0
        fix = FIXES.get(error.errno or 0, "")
        print(printable(f"{error.filename or 'file'}: {error.strerror or error}{fix}"), file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        requirements = _requirements_of(error.name or "")
        if requirements is None:
            return _told_as_bug(error)
        print(
            f"{error.name}: not installed; .venv/bin/pip install -r {requirements}, or make run STUDY=… of its task",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 130
    except Interrupted as reason:
        print(reason, file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # what nobody foresaw
        return _told_as_bug(error)


def _told_as_bug(error: Exception) -> int:
    """One line for what nobody foresaw; its traceback goes where it can be sent from."""
    details = Path(".rootstock/last_error.txt")
    with suppress(OSError):
        details.parent.mkdir(exist_ok=True)
        details.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    print(
        f"{printable(what)}; this is a bug, of Rootstock or of a task or model of your own: see {details}",
        file=sys.stderr,
    )
    return 1


def _requirements_of(module: str) -> str | None:
    """The file of what one task needs that names a package, where one does."""
    for file in sorted(Path(__file__).parents[4].glob("requirements-*.txt")):
        names = {re.split(r"[=\s]", line)[0].replace("-", "_") for line in file.read_text().splitlines()}
        if module.partition(".")[0] in names:
            return file.name
    return None


def say(line: str) -> None:
    """A line of a job's log, written at once."""
    print(printable(line), flush=True)


def printable(text: str) -> str:
    """The text without what commands a terminal: parts of it may come from a file of somebody else's."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


class Parser(argparse.ArgumentParser):
    """Reports a wrong flag in one line, with the nearest known one."""

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


def store_folder(text: str) -> str:
    """A flag's value that is a folder of trained models."""
    if not text.strip() or Path(text) == Path():
        raise argparse.ArgumentTypeError(f"{text!r} is the project itself; give a folder, such as {paths.STORE}")
    return text


def new_file(text: str) -> str:
    """A flag's value that is a file to write: known to be none before anything is computed for it."""
    if not text.strip() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; give the name of a file")
    return text


def new_folder(text: str) -> str:
    """A flag's value that is a folder to write."""
    if not text.strip() or (Path(text).exists() and not Path(text).is_dir()):
        raise argparse.ArgumentTypeError(f"{text!r} is no folder; give the name of one")
    return text


def add_store_flag(parser: argparse._ActionsContainer) -> None:
    """Where trained models lie."""
    parser.add_argument(
        "--store", type=store_folder, default=paths.STORE, help=f"folder of trained models (default: {paths.STORE})"
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Where things lie and how they run: nothing here changes what is learned."""
    group = parser.add_argument_group("how it runs (never part of the hash)")
    add_store_flag(group)
    group.add_argument("--expect", type=json.loads, default={}, help="what the data must be like, as JSON")
    group.add_argument("--asked_by", type=safe_name, default="", help="name of the study, for the records")
    add_run_settings(group)


def add_run_settings(group: argparse._ActionsContainer) -> None:
    """The run settings, as JSON and as flags of their own."""
    group.add_argument("--run", default="{}", help="the run settings as JSON, as the workflow passes them")
    for name, field in Run.model_fields.items():
        told = field.description or ""
        told += "" if "(default: " in told else f" (default: {field.default})"
        options: dict = {"default": argparse.SUPPRESS, "help": told}
        options |= {"action": argparse.BooleanOptionalAction} if field.annotation is bool else {"metavar": "VALUE"}
        group.add_argument(f"--{name}", **options)


def read_run(arguments: argparse.Namespace) -> Run:
    """The run settings of `--run` and of single flags, checked."""
    problems = Problems()
    try:
        given = json.loads(arguments.run)
    except ValueError:
        raise Refusal("--run: is not JSON") from None
    given |= {name: getattr(arguments, name) for name in Run.model_fields if hasattr(arguments, name)}
    run = read_section(Run, given, "run", problems)
    problems.raise_if_any()
    return run


def data_of(arguments: argparse.Namespace) -> str:
    """The data folder that goes with `--spec`."""
    if not getattr(arguments, "data_path", None):
        raise Refusal("--data_path: missing; with --spec it says where the data lies")
    return arguments.data_path


def add_setting_flags(parser: argparse.ArgumentParser, task: Task, sections: tuple[str, ...]) -> None:
    """A flag for every field of a flat job list that belongs to one of `sections`."""
    groups = {name: parser.add_argument_group(f"{name} settings") for name in sections}
    for name, (section, field) in fields_of(task).items():
        if section not in sections or field == "parent":
            continue  # a stage is no flag: train it first, with flags of its own
        options = _unit_flag(task, field) if section == "unit" else _field_flag(section_of(task, section), field)
        groups[section].add_argument(f"--{name}", default=argparse.SUPPRESS, **options)
    if "data_path" not in fields_of(task):  # a task whose users have no folder of their own
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
    """The flags that were given, as one job of a flat list."""
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
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"--spec: {given} is neither JSON nor a readable file ({error})") from None


def add_task_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default=TASKS.names[0], help=f"what is trained (default: {TASKS.names[0]})")


class _OwnTask(argparse.Action):
    """Loads the task that a user names, so that files may name it too."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        TASKS.find(values)
        setattr(namespace, self.dest, values)


def add_own_task_flag(
    parser: argparse._ActionsContainer, about: str = "a task of your own that the file may name"
) -> None:
    parser.add_argument("--task", action=_OwnTask, metavar="package.module:Class", help=about)


def task_of(arguments: list[str]) -> Task:
    """The task named on a command line, or in the spec on it, before its flags are known."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--task", default=TASKS.names[0])
    early.add_argument("--spec")
    known, _ = early.parse_known_args(arguments)
    name, flag = known.task, "--"
    if known.spec:
        try:
            name, flag = json.loads(spec_text(known.spec)).get("task", known.task), "--spec: "
        except (ValueError, AttributeError):
            raise Refusal("--spec: is not the JSON object of a spec") from None
    try:
        return TASKS.find(name)
    except StudyError as error:
        raise Refusal(f"{flag}{error}") from None
