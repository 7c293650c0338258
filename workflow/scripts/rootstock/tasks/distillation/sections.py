"""What the page shows of distillation: students beside their teacher, speed, dimensions, what was learned, scores."""

from typing import Any

import pandas as pd

from ...results import draw, draw_named
from ...results.histories import history_of_base, history_of_experiment
from ...results.learning import curve, learning_curves
from ...results.sections import Figure, Material, Section, Table
from .methods import methods as methods
from .tables import AT_DIMENSION, SCORES, nested_dimensions, students, varied, varied_seeds

MOST_ROWS, MOST_LINES = 30, 6  # six colours
RECALL = "R@1 on held-out text, %"
MEANS = "With several seeds, a value is the mean over them."


def sections(material: Material) -> list[Section]:
    rows = students(material.summary)
    return [
        Section("Students beside their teacher", [*beside_teacher(rows), *against_speed(rows, material.baselines)]),
        Section("Fewer dimensions", against_dimensions(rows)),
        Section("What was learned", what_was_learned(rows, material)),
        Section("Retrieval scores", [scores(rows, material.baselines)]),
    ]


def beside_teacher(rows: pd.DataFrame) -> list[Figure]:
    """R@1 of each student after each phase, and of the teacher."""
    values = _by_phase(rows)
    if values.notna().sum().sum() < 2:
        return []
    shown, teachers = values.loc[_best(values)], _teachers(rows)
    caption = f"A row is a student, a mark its R@1 after a phase, the dashed line the teacher. {MEANS}"
    alt = "; ".join(f"{student}: " + ", ".join(f"{phase} {value:.1f} %" for phase, value in one.dropna().items())
                    for student, one in shown.iterrows())  # fmt: skip
    data = pd.concat([shown.reset_index(), pd.DataFrame(teachers, columns=["student", "teacher"])])
    return [
        Figure(
            "students", "Recall of students and teacher", caption + _first_of(shown, values), f"{_told(teachers)}; {alt}",
            draw_named.rows(shown, RECALL, teachers), data,
        )
    ]  # fmt: skip


def _by_phase(rows: pd.DataFrame) -> pd.DataFrame:
    """R@1 in per cent, one row per student, one column per phase. A student's phase 1 stands beside its phase 2."""
    second, first = rows[rows["phase"] == 2], rows[rows["phase"] == 1]
    alone = first[~first["base_hash"].isin(second["base_hash"])]
    both = pd.concat([
        second.reindex(columns=["student", "phase1_recall_at_1", "recall_at_1"]).set_axis(["student", "phase 1", "phase 2"], axis=1),
        alone[["student", "recall_at_1"]].set_axis(["student", "phase 1"], axis=1),
    ])  # fmt: skip
    values = 100 * both.astype({"phase 1": float, "phase 2": float}).groupby("student", sort=False).mean()
    return values.dropna(axis="columns", how="all")


def _best(values: pd.DataFrame) -> list[Any]:
    """Names of the rows with the highest values, at most `MOST_ROWS`, in their original order."""
    best = set(values.max(axis=1).nlargest(MOST_ROWS).index)
    return [name for name in values.index if name in best]


def against_speed(rows: pd.DataFrame, baselines: list[dict[str, Any]]) -> list[Figure]:
    """R@1 against sentences per second; absent if no speeds were measured."""
    speeds = {row["student"]: float(row["student_per_second"]) for row in baselines}
    known = rows.assign(x=rows["architecture"].map(speeds), y=100 * rows["recall_at_1"]).dropna(subset=["x"])
    if known.empty:
        return []
    found = known.groupby(["phase", "student", "architecture"], sort=False)[["x", "y"]].mean().reset_index()
    best = set(found.groupby("architecture")["y"].idxmax())  # one name per architecture: its points share one speed
    family = f"{rows['student_name'].iloc[0]}, " if rows["student_name"].nunique() == 1 else ""
    found["name"] = [
        str(name).removeprefix(family) if place in best else "" for place, name in found["student"].items()
    ]
    teacher = pd.DataFrame(_teachers(rows), columns=["student", "y"]).assign(
        x=max(float(row["teacher_per_second"]) for row in baselines), name="teacher"
    )
    series = {f"phase {phase}": group for phase, group in found.groupby("phase")} | {"teacher": teacher}
    threads = ", ".join(sorted({str(row["threads"]) for row in baselines}))
    caption = (
        "Right is faster, up is better. Speed was measured on the machine of the run, on held-out passages, in float32 with "
        f"{threads} thread(s); it depends on the architecture alone. {MEANS}"
    )
    data = pd.concat([group.assign(model=name) for name, group in series.items()])[["model", "student", "x", "y"]]
    alt = "; ".join(
        f"{one.student}, {one.model}: {one.x:.0f} sentences a second, {one.y:.1f} %" for one in data.itertuples()
    )
    drawing = draw_named.points(series, "sentences a second", RECALL)
    data = data.rename(columns={"x": "sentences a second", "y": "R@1, %"})
    return [Figure("recall_speed", "Recall against speed", caption, alt, drawing, data)]


def against_dimensions(rows: pd.DataFrame) -> list[Figure]:
    """Recall against the number of first dimensions kept, up to all; absent if all scores have the same number."""
    scored = dimension_scores(rows)
    if scored["dimensions"].nunique() < 2:
        return []
    best = scored.groupby("line", sort=False)["R@1, %"].max().sort_values(ascending=False, kind="stable")
    lines = {str(name): _line(scored[scored["line"] == name]) for name in best.index[:MOST_LINES]}
    caption = (
        "A vector is cut to its first dimensions and scaled to length one again. A mark is the mean over seeds, a band goes "
        "from the lowest seed to the highest, the dashed line is the teacher with all of its dimensions."
    )
    alt = "; ".join(f"{name}: " + ", ".join(f"{one.x:g} dimensions {one.mean:.1f} %" for one in line.itertuples())
                    for name, line in lines.items())  # fmt: skip
    teachers = _teachers(rows)
    named = dict(zip(draw_named.shorter(list(lines)), lines.values(), strict=True))
    drawing = draw.against(named, "dimensions kept", RECALL, levels=teachers)
    caption += _first_of(lines, best)
    return [
        Figure("recall_dimensions", "Recall against dimensions", caption, f"{_told(teachers)}; {alt}", drawing, scored)
    ]


def dimension_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment and number of dimensions, with R@1 and R@10 in per cent."""
    nested = {d: (f"{AT_DIMENSION}{d}", f"recall_at_10_at_dim_{d}") for d in nested_dimensions(rows)}
    found = [
        (f"{one['student']}, phase {one['phase']}", int(dimensions), *(100 * one[name] for name in names))
        for one in rows.to_dict("records")
        for dimensions, names in (nested | {one["dimension"]: ("recall_at_1", "recall_at_10")}).items()
    ]
    frame = pd.DataFrame(found, columns=["line", "dimensions", "R@1, %", "R@10, %"])
    return frame.dropna().sort_values(["line", "dimensions"], kind="stable", ignore_index=True)


def _line(scored: pd.DataFrame) -> pd.DataFrame:
    found = scored.groupby("dimensions")["R@1, %"].agg(mean="mean", low="min", high="max")
    return found.rename_axis("x").reset_index()


def what_was_learned(rows: pd.DataFrame, material: Material) -> list[Figure]:
    """Validation loss by epoch of each training; absent if all trainings have a single epoch."""
    bases = rows.drop_duplicates("started_as")
    first = {one["started_as"]: curve(history_of_base(one["base_hash"])) for one in bases.to_dict("records")}
    called = rows[rows["phase"] == 2].drop_duplicates("student").set_index("path")["student"]
    second = {
        str(called[one.path]): curve(history_of_experiment(one))
        for one in material.plan.fine_tunes
        if one.path in called
    }
    caption = (
        "Loss on the validation part after each epoch; a mark is the epoch whose weights were kept. The two phases have "
        "different losses, so each has a scale of its own. Of several seeds the first is drawn."
    )
    return learning_curves(
        "losses", "Validation loss by epoch", caption, {"phase 1": first, "phase 2": second}, "epoch", "validation loss"
    )


def scores(rows: pd.DataFrame, baselines: list[dict[str, Any]]) -> Table:
    """One row for the teacher, then one per experiment."""
    names = [*varied(rows), *varied_seeds(rows)]
    table = rows[["student_name", "phase", "layers", *names]].rename(columns={"student_name": "model"})
    teacher: dict[str, Any] = {"model": f"teacher {rows['teacher'].iloc[0]}"}
    for name, label in SCORES.items():
        table[f"{label}, %"] = 100 * rows[name]
        teacher[f"{label}, %"] = 100 * rows[f"teacher_{name}"].iloc[0]
    table["R@1, % of the teacher's"] = 100 * rows["recall_at_1"] / rows["teacher_recall_at_1"]
    table["correlation with the teacher"] = rows["teacher_correlation"]
    table["parameters, million"] = rows["parameters"] / 1e6
    if baselines:
        speeds = {row["student"]: float(row["student_per_second"]) for row in baselines}
        table["sentences a second"] = rows["architecture"].map(speeds)
        teacher["sentences a second"] = max(float(row["teacher_per_second"]) for row in baselines)
    frame = pd.concat([pd.DataFrame([teacher]), table], ignore_index=True)[list(table)].astype(
        {"phase": "Int64", "layers": "Int64"}
    )
    digits = {str(name): 1 for name in frame if str(name).endswith(("%", "million", "second", "teacher's"))}
    one = rows.iloc[0]
    caption = (
        f"{one['n_queries']} queries rank {one['n_passages']} held-out passages. Correlation: Spearman's, of the student's "
        "similarities with the teacher's."
    )
    return Table(
        "scores", "Scores", caption, frame, digits | {"correlation with the teacher": 3}, is_long=len(frame) > 10
    )


def _teachers(rows: pd.DataFrame) -> list[tuple[str, float]]:
    """The R@1 of each teacher, in per cent."""
    found = rows.drop_duplicates(["teacher", "teacher_recall_at_1"])
    return [(f"teacher {one['teacher']}", 100 * one["teacher_recall_at_1"]) for one in found.to_dict("records")]


def _told(teachers: list[tuple[str, float]]) -> str:
    return "; ".join(f"{name} {recall:.1f} %" for name, recall in teachers)


def _first_of(shown: Any, every: Any) -> str:
    return f" The best {len(shown)} of {len(every)} are drawn." if len(shown) < len(every) else ""
