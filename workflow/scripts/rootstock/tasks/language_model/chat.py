"""A session with a model: prompts in, text out as it comes, settings changed on the way. Terminal or pipe."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from ...study.problems import Problems, Refusal, StudyError, nearest
from ...study.told import printable
from ...study.validate import read_section
from .generate import Config, stream_text
from .model import LanguageModel
from .sampling import Sampling

HELP = """\
Write the beginning of a text, such as "lung cancer:"; the model goes on. Ctrl-C stops a text, Ctrl-D ends the session.
  help                 this
  settings             the settings now
  set NAME VALUE       change one: {names}; set seed none draws anew each time
  clear                clear the screen
  quit                 end the session"""
CLEAR_SCREEN = "\033[2J\033[H"


def _shown(name: str) -> str:
    return name.replace("_", "-")


SETTINGS = [_shown(name) for name in Sampling.model_fields]


class Session:
    """What one user talks to: a model and the settings of the moment."""

    def __init__(self, model: LanguageModel, config: Config, settings: Sampling, write: Callable[[str], None]):
        self.model, self.config, self.settings, self.write = model, config, settings, write
        self.is_over = False

    def answer(self, line: str) -> None:
        """Obey a command or go on from a prompt; a fault is told in one line and ends nothing."""
        words = line.split()
        match words:
            case []:
                self.write("write the beginning of a text, or help\n")
            case ["help"]:
                self.write(HELP.format(names=", ".join(SETTINGS)) + "\n")
            case ["settings"]:
                self.write("".join(f"{_shown(name)} {value}\n" for name, value in self.settings))
            case ["clear"]:
                self.write(CLEAR_SCREEN)
            case ["quit" | "exit"]:
                self.is_over = True
            case ["set", name, value] if name.replace("-", "_") in Sampling.model_fields:
                self.change(name.replace("-", "_"), None if value == "none" else value)
            case ["set", name, _] if "did you mean" in (hint := nearest(_shown(name), SETTINGS)):
                self.write(f"{name}: unknown setting; {hint}\n")
            case _:
                self.try_to_go_on(line)

    def change(self, name: str, value: str | None) -> None:
        try:
            self.settings = read_settings(dict(self.settings) | {name: value}, "")
            self.write(f"{_shown(name)} {getattr(self.settings, name)}\n")
        except Refusal as fault:
            self.write(f"{fault}\n")

    def try_to_go_on(self, prompt: str) -> None:
        try:
            self.go_on(prompt)
        except Refusal as fault:
            self.write(f"{fault}\n")

    def go_on(self, prompt: str) -> None:
        """Write the prompt's text piece by piece; Ctrl-C ends the text and nothing else. `Refusal` where nothing goes on from it."""
        try:
            with closing(stream_text(self.model, self.config.tokenizer, prompt, self.settings)) as pieces:
                self.write(prompt + shown(next(pieces, "")))
                for piece in pieces:
                    self.write(shown(piece))
            self.write("\n")
        except KeyboardInterrupt:
            self.write(" …\n")


def read_settings(values: dict, flag: str = "--") -> Sampling:
    """Settings of a user; `Refusal` names each value that does not fit, as `--top-p: 2 needs …`."""
    problems = Problems()
    settings = read_section(Sampling, {name: _number(v) for name, v in values.items() if v is not None}, "", problems)
    if problems.lines:
        raise StudyError(flag + _shown(line.partition(":")[0]) + line[line.index(":") :] for line in problems.lines)
    return settings


def converse(session: Session, lines: Iterable[str]) -> None:
    """Answer line after line until they end or the user does."""
    for line in lines:
        session.answer(line)
        if session.is_over:
            return


def typed_lines() -> Iterator[str]:
    """Lines from a terminal, with history and editing. Ctrl-C empties the line, Ctrl-D ends."""
    from prompt_toolkit import PromptSession

    terminal = PromptSession()
    while True:
        try:
            yield terminal.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def piped_lines() -> Iterator[str]:
    """Lines that no terminal sends. Bytes in them that are no text stay what they are: the prompt is then refused, not the rest."""
    return (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)


def shown(text: str) -> str:
    """What a model wrote, as a terminal may have it: the model may be anybody's. Where it goes on to a program it stays as it is."""
    return printable(text) if sys.stdout.isatty() else text


def write_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _number(value: object) -> object:
    """A word of the user as the number that it is; other words are left for the check to refuse."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
