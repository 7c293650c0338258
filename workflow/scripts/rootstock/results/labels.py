"""Settings of a study, grouped by the columns that its question names, and labelled for people."""

from typing import Any

import pandas as pd

from .question import Question

FROM_SCRATCH = "Training from scratch"


def settings_of(rows: pd.DataFrame, question: Question) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Each setting, without the columns that it does not use, with its rows, in the order of the study."""
    columns = setting_columns(rows, question)
    if not columns:
        return [({}, rows)]
    groups: Any = rows.groupby(columns, sort=False, dropna=False)  # a key is a tuple, which the type stubs do not know
    return [({n: v for n, v in zip(columns, key, strict=True) if not pd.isna(v)}, group) for key, group in groups]


def setting_columns(rows: pd.DataFrame, question: Question) -> list[str]:
    """The columns that distinguish settings, including the amount of data."""
    return [name for name in dict.fromkeys((*question.settings, question.amount)) if name is not None and name in rows]


def label_of(setting: dict[str, Any], question: Question) -> str:
    """A setting in a table or figure: its mode, the amount of data, then the rest by name."""
    amount = setting.get(question.amount) if question.amount else None
    first = [str(setting["mode"])] if "mode" in setting else []
    share = [f"{percent(amount)} %"] if amount is not None else []
    return ", ".join([*first, *share, *_rest(setting, question)]) or question.treatment


def phrase_of(setting: dict[str, Any], question: Question) -> str:
    """A setting at the start of a sentence: "Fine-tuning on 10 % of a person's windows (full_fine_tuning, lr 0.01)"."""
    amount = setting.get(question.amount) if question.amount else None
    share = f" on {percent(amount)} % {question.amount_words}".rstrip() if amount is not None else ""
    mode = [str(setting["mode"])] if "mode" in setting else []
    inside = ", ".join([*mode, *_rest(setting, question)])
    treatment = FROM_SCRATCH if setting.get("mode") in question.scratch else question.treatment
    return f"{treatment}{share}" + (f" ({inside})" if inside else "")


def percent(share: float) -> str:
    """A share as a percentage without needless digits: 0.125 is 12.5."""
    return f"{100 * share:.4g}"


def _rest(setting: dict[str, Any], question: Question) -> list[str]:
    named = {name: value for name, value in setting.items() if name not in ("mode", question.amount)}
    return [f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in named.items()]
