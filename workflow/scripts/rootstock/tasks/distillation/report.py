"""The results of distillation: columns of `summary.csv`, the table against the teacher, the figure."""

from pathlib import Path
from typing import Any

import pandas as pd

from ...results.figure import dots_by_row
from ...results.question import Measure, Question
from ...results.summary import swept_columns, tabulated
from .sections import methods as methods
from .sections import sections as sections
from .tables import SCORES, nested_dimensions, phase_2, varied

RECALL = Measure("recall_at_1", "phase1_recall_at_1", "R@1 on held-out text", "%", 100, best=100, change_unit="points")


def result_columns(metrics: dict[str, Any]) -> dict[str, Any]:
    """The result columns of one experiment; recalls are fractions."""
    found = {name: metrics["test"][name] for name in (*SCORES, "teacher_correlation")}
    found |= {f"teacher_{name}": metrics["teacher"][name] for name in SCORES}
    found |= {f"phase1_{name}": metrics["base_test"][name] for name in SCORES if "base_test" in metrics}
    for dimension, scores in metrics["dimensions"].items():
        found |= {f"{name}_at_dim_{dimension}": scores[name] for name in ("recall_at_1", "recall_at_10")}
    sizes = ("layers", "parameters", "dimension", "n_queries", "n_passages", "n_train", "effective_batch")
    return found | {name: metrics[name] for name in sizes}


def question(summary: pd.DataFrame) -> Question:
    """Does phase 2 help a student, and how near does it come to its teacher? There is one held-out text."""
    mode, *settings = swept_columns(summary, ("student", "architecture", "base_seed", "seed"))
    return Question(
        measure=RECALL,
        unit="text",
        words=("held-out text", "held-out texts"),
        settings=(*([mode] if phase_2(summary)["mode"].nunique() > 1 else []), *settings),
        seeds=("seed", "base_seed"),
        treatment="Phase 2",
        base="phase 1",
        rivals=(("the teacher", "teacher_recall_at_1"),),
        derive=phase_2,
    )


def render(summary: pd.DataFrame, baselines: list[dict[str, Any]]) -> str:
    """The teacher, then each student after phase 1 and phase 2, as text for a terminal."""
    first = summary.iloc[0]
    parts = [
        f"Retrieval of {first['n_passages']} held-out passages by {first['n_queries']} queries, %; "
        "in brackets, % of the teacher's",
        _text(table_of(summary, baselines)),
    ]
    nested = nested_table(summary)
    if len(nested):
        parts += ["By its first dimensions alone, %", _text(nested)]
    if baselines:
        parts.append(
            "ρ to teacher: Spearman's correlation with the teacher's similarities. Sentences a second: held-out passages, "
            f"float32, {baselines[0]['threads']} thread(s), medians of turns; in brackets, times the teacher's and the range over turns"
        )
    return "\n\n".join(parts) + "\n"


def table_of(summary: pd.DataFrame, baselines: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for the teacher, then one per experiment."""
    first = summary.iloc[0]
    teacher = {"model": f"teacher {first['teacher']}", "phase": "", "layers": ""} | {
        label: f"{100 * first[f'teacher_{name}']:.1f}" for name, label in SCORES.items()
    }
    speeds = {row["student"]: row for row in baselines}
    if speeds:
        teacher["sentences/s"] = f"{max(row['teacher_per_second'] for row in baselines):.0f}"
    rows = [teacher]
    names = varied(summary)
    for _, one in summary.iterrows():
        row = _who(one) | {name: f"{v:g}" if isinstance(v := one[name], float) else str(v) for name in names}
        for name, label in SCORES.items():
            row[label] = f"{100 * one[name]:.1f} ({100 * one[name] / one[f'teacher_{name}']:.1f})"
        row |= {
            "ρ to teacher": f"{one['teacher_correlation']:.3f}",
            "parameters": f"{one['parameters'] / 1e6:.1f} M",
        }
        speed = speeds.get(one["architecture"])
        if speed:
            row["sentences/s"] = f"{speed['student_per_second']:.0f} ({_times(speed)})"
        rows.append(row)
    return pd.DataFrame(rows)


def _times(speed: dict[str, Any]) -> str:
    """The speed-up over the teacher: the median over turns and, if it was recorded, the range."""
    least, most = speed.get("speed_up_range", (None, None))
    times = speed.get("speed_up", speed["student_per_second"] / speed["teacher_per_second"])
    return f"{times:.2f}×" if least is None else f"{times:.2f}×, {least:.2f}–{most:.2f}"


def nested_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Recall by the first dimensions alone, one row per experiment."""
    dimensions = nested_dimensions(summary)
    rows = [
        _who(one)
        | {
            f"{label} at {d}": f"{100 * one[f'{name}_at_dim_{d}']:.1f}"
            for name, label in (("recall_at_1", "R@1"), ("recall_at_10", "R@10"))
            for d in dimensions
        }
        for _, one in summary.iterrows()
    ]
    return pd.DataFrame(rows) if dimensions else pd.DataFrame()


def _who(one: pd.Series) -> dict[str, str]:
    phase = {"base_only": "1", "lora": "2, lora"}.get(one["mode"], "2")
    return {"model": one["student_name"], "phase": phase, "layers": str(one["layers"])}


def _text(table: pd.DataFrame) -> str:
    """The table as text; its cells are already formatted."""
    return tabulated(table.fillna(""), disable_numparse=True)


def draw(summary: pd.DataFrame, path: Path) -> None:
    """R@1 of the teacher and of each student after each phase."""
    rows = [("teacher", 100 * summary["teacher_recall_at_1"][:1])]
    for name, one in summary.groupby(["student_name", "layers", "mode"], sort=False):
        student, layers, mode = name
        rows.append((f"{student}, {layers} layers, phase {1 if mode == 'base_only' else 2}", 100 * one["recall_at_1"]))
    dots_by_row(rows, "R@1 on held-out text, %  (dot: a setting, line: mean)", path)
