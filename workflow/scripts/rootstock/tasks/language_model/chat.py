"""A session with a model, in a terminal or a pipe: prompts in, text out as it comes, settings changed in between."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from ...study.problems import Problems, Refusal, StudyError, nearest
from ...study.told import printable
from ...study.validate import read_section
from .generate import Config, beyond_context, stream_text
from .model import LanguageModel
from .sampling import Sampling
from .tokenizer import encode_prompt

HELP = """\
Write the beginning of a text, such as "lung cancer:"; the model continues it. Ctrl-C stops a text, Ctrl-D ends the session.
  help                 this
  settings             the settings now
  set NAME VALUE       change one: {names}; none takes back seed and stop; \\n in stop ends a line
  clear                clear the screen
  quit                 end the session
A line that begins with a space is no command: the model continues it."""
CLEAR_SCREEN = "\033[2J\033[H"


def _shown(name: str) -> str:
    return name.replace("_", "-")


SETTINGS = [_shown(name) for name in Sampling.model_fields]


class Session:
    """A user's session: a model, the current settings, and the number of texts per prompt."""

    def __init__(
        self,
        model: LanguageModel,
        config: Config,
        settings: Sampling,
        write: Callable[[str], None],
        samples: int = 1,
    ):
        self.model, self.config, self.settings, self.write = model, config, settings, write
        self.samples, self.is_over = samples, False

    def answer(self, line: str) -> None:
        """Obey a command or continue a prompt. Report a fault in one line and go on."""
        match line.split():
            case []:
                self.write("write the beginning of a text, or help\n")
            case _ if line.startswith(" "):
                self.try_to_go_on(line)
            case ["help"]:
                self.write(HELP.format(names=", ".join(SETTINGS)) + "\n")
            case ["settings"]:
                self.write("".join(self._told(name) for name in Sampling.model_fields))
            case ["clear"]:
                self.write(CLEAR_SCREEN)
            case ["quit" | "exit"]:
                self.is_over = True
            case ["set", name, *value] if name.replace("-", "_") in Sampling.model_fields:
                self.change(name.replace("-", "_"), " ".join(value))
            case ["set", *words] if len(words) < 3:
                self.refuse(words)
            case _:
                self.try_to_go_on(line)

    def refuse(self, words: list[str]) -> None:
        """Answer a `set` that names no setting."""
        name = words[0] if words else "set"
        hint = nearest(_shown(name), SETTINGS) if words else "set NAME VALUE"
        self.write(f"{printable(name)}: unknown setting; {hint}; before a text that begins with set write a space\n")

    def change(self, name: str, value: str) -> None:
        try:
            self.settings = read_settings(dict(self.settings) | {name: None if value == "none" else value}, "")
            self.write(self._told(name))
        except Refusal as fault:
            self.write(f"{fault}\n")

    def _told(self, name: str) -> str:
        value = getattr(self.settings, name)
        told = " ".join(map(json.dumps, value)) or "none" if isinstance(value, tuple) else value
        return f"{_shown(name)} {told}\n"

    def try_to_go_on(self, prompt: str) -> None:
        try:
            self.go_on(prompt)
        except Refusal as fault:
            self.write(f"{fault}\n")

    def go_on(self, prompt: str) -> None:
        """Write a prompt's texts piece by piece; Ctrl-C ends only them. Raise `Refusal` where the prompt cannot be
        encoded."""
        if reason := beyond_context(self.model, encode_prompt(self.config.tokenizer, prompt)):
            print(reason, file=sys.stderr)
        try:
            for seed in self._seeds():
                settings = self.settings.model_copy(update={"seed": seed})
                with closing(stream_text(self.model, self.config.tokenizer, prompt, settings)) as pieces:
                    self.write(prompt + shown(next(pieces, "")))
                    for piece in pieces:
                        self.write(shown(piece))
                self.write("\n")
        except KeyboardInterrupt:
            self.write(" …\n")

    def _seeds(self) -> list[int | None]:
        """The seed of each sample; None draws a new one."""
        seed = self.settings.seed
        return [None if seed is None else seed + number for number in range(self.samples)]


def read_settings(values: dict[str, Any], flag: str = "--") -> Sampling:
    """Return a user's settings. Raise `StudyError` with each value that does not fit, such as `--top-p: 2 needs …`. A
    stop string may contain \\n for a line end."""
    problems, given = Problems(), {name: _number(value) for name, value in values.items() if value is not None}
    given |= {"stop": _with_line_ends(values["stop"])} if values.get("stop") else {}
    settings = read_section(Sampling, given, "", problems)
    if problems.lines:
        raise StudyError(flag + _shown(line.partition(":")[0]) + line[line.index(":") :] for line in problems.lines)
    return settings


def converse(session: Session, lines: Iterable[str]) -> None:
    """Answer line after line until the lines end or the user quits."""
    for line in lines:
        session.answer(line)
        if session.is_over:
            return


def typed_lines() -> Iterator[str]:
    """Lines from a terminal, with history and editing. Ctrl-C clears the line, Ctrl-D ends the session."""
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
    """Lines from a pipe or file. Bytes that are not text are kept, so that only their prompt is refused."""
    return (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)


def shown(text: str) -> str:
    """A model's text, made safe for a terminal, because the model may be anybody's; unchanged for a pipe or file."""
    return printable(text) if sys.stdout.isatty() else text


def write_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _with_line_ends(stops: Any) -> Any:
    """Stop strings with each typed \\n as a line end; what is not text is left for the check to refuse."""
    if isinstance(stops, str):
        return [stops.replace("\\n", "\n")]
    return [stop.replace("\\n", "\n") if isinstance(stop, str) else stop for stop in stops]


def _number(value: object) -> object:
    """A user's word as a number, if it is one; other words are left for the check to refuse."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
