"""Comparisons for a paper in LaTeX: a table with booktabs' rules, and each number as a command. Every name is escaped."""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

import pandas as pd
from tabulate import LATEX_ESCAPE_RULES

from .comparisons import Comparison
from .question import Question

NUMERALS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
NONE = "--"  # an unknown number
NOTHING = "% nothing is compared in this study\n"


def tables_tex(comparisons: Sequence[Comparison], question: Question | None) -> str:
    """A table of all comparisons, for `\\input`."""
    if question is None or not comparisons:
        return NOTHING
    frame = pd.DataFrame([_row(one, question) for one in comparisons])
    measure = question.measure
    table = frame.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="ll" + "r" * (len(frame.columns) - 2),
        position_float="centering",
        caption=escaped(f"{measure.label}, {measure.unit}".removesuffix(", ")),
    )
    return f"% needs \\usepackage{{booktabs}}\n{table}"


def values_tex(
    comparisons: Sequence[Comparison], question: Question | None, study: str, main: Comparison | None
) -> str:
    """One command per number, named by study, comparison and quantity: `\\smartwatchAnswerGain`. `main` is the
    comparison that the answer speaks of."""
    if question is None or main is None:
        return NOTHING
    named = [("Answer", main)]
    named += [(one.label if one.kind == "base" else f"{one.label} against {one.against}", one) for one in comparisons]
    taken: set[str] = set()
    lines = []
    for name, one in named:
        stem = _unused(command_name(study, name), taken)
        lines.append(f"% {_in_one_line(one.label)}, against {_in_one_line(one.against)}")
        lines += [f"\\newcommand{{\\{stem}{what}}}{{{value}}}" for what, value in _values(one, question)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text escaped for LaTeX, in one line."""
    return _in_one_line(text).translate(str.maketrans(LATEX_ESCAPE_RULES))


def command_name(*names: str) -> str:
    """The name of a LaTeX command from several names: letters only, digits as words, later words capitalised."""
    plain = unicodedata.normalize("NFKD", " ".join(names).replace("%", " percent ")).encode("ascii", "ignore").decode()
    found: list[str] = re.findall("[A-Za-z]+|[0-9]", plain)
    first, *rest = [NUMERALS[int(word)] if word.isdigit() else word for word in found] or ["study"]
    return first[0].lower() + first[1:] + "".join(word[0].upper() + word[1:] for word in rest)


def _unused(stem: str, taken: set[str]) -> str:
    """The stem, with as many x at its end as keep it from being taken."""
    free = (f"{stem}{'x' * count}" for count in range(len(taken) + 1))
    name = next(name for name in free if name not in taken)
    taken.add(name)
    return name


def _row(one: Comparison, question: Question) -> dict[str, str]:
    unit = escaped(question.words[1])
    values = dict(_values(one, question))
    interval = f"{values['Low']} to {values['High']}" if one.can_tell else NONE
    return {
        "Setting": escaped(one.label),
        "Against": escaped(one.against),
        f"{unit[:1].upper()}{unit[1:]}": values["Units"],
        "Before": values["Before"],
        "After": values["After"],
        "Gain": values["Gain"],
        "95\\,\\% interval": interval,
        "Gain : lose": f"{one.gained} : {one.lost}",
        "$p$ (Holm)": values["PHolm"],
    }


def _values(one: Comparison, question: Question) -> Iterator[tuple[str, str]]:
    digits = question.measure.digits
    yield "Before", _number(one.before, digits)
    yield "After", _number(one.after, digits)
    yield "Gain", _number(one.mean, digits)
    yield "Low", _number(one.low, digits)
    yield "High", _number(one.high, digits)
    yield "Units", str(one.n)
    yield "Gained", str(one.gained)
    yield "Lost", str(one.lost)
    yield "ProbabilityOfImprovement", _number(one.probability_of_improvement, 2)
    yield "P", _p(one.p)
    yield "PHolm", _p(one.p_holm)
    yield "SeedSd", _number(one.seed_sd, digits)


def _number(value: float, digits: int) -> str:
    """A number with a true minus sign; zero has no sign."""
    text = f"{value:.{digits}f}"
    if math.isnan(value):
        return NONE
    return text.replace("-", "\\ensuremath{-}") if float(text) else text.lstrip("-")


def _p(p: float) -> str:
    if math.isnan(p):
        return NONE
    return "\\ensuremath{<}0.001" if p < 0.001 else f"{p:.2g}"


def _in_one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
