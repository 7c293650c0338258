"""A paragraph for the methods section of a paper. Every number comes from the specs or the statistics as computed."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from .. import __version__
from ..study.plan import Plan
from ..study.spec import BaseSpec, FinetuneSpec
from . import statistics
from .comparisons import Comparison
from .question import Question
from .wording import listed

FIELDS = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "batch_size": "batch size",
    "gradient_clip": "gradients clipped to norm",
    "precision": "precision",
}
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon"}


def methods_text(plan: Plan, question: Question | None, comparisons: Sequence[Comparison], own: Sequence[str]) -> str:
    """One paragraph. `own` are the task's sentences; without them, trainings are described by what all specs have."""
    sentences = [*_counts(plan), *(own or _trainings(plan))]
    if question and comparisons:
        sentences += _statistics(question, comparisons)
    return " ".join([*sentences, f"All was run with Rootstock {__version__}."]) + "\n"


def _counts(plan: Plan) -> list[str]:
    tuned = [one for one in plan.fine_tunes if one.base]
    alone = len(plan.fine_tunes) - len(tuned)
    trained = [_many(len(plan.bases), "base model"), _many(len(tuned), "fine-tune")]
    trained += [_many(alone, "model") + " from scratch"] if alone else []
    measured = len(plan.experiments) - len(plan.fine_tunes)
    also = f"; {_many(measured, 'experiment')} measured a base model as it is" if measured else ""
    return [
        f"The study “{plan.study.name}” has {_many(len(plan.experiments), 'experiment')}.",
        f"It trained {listed(trained, 'and')}{also}. Identical trainings were done once.",
    ]


def _trainings(plan: Plan) -> list[str]:
    """A sentence on the base models, and one for each group of modes that are trained alike."""
    by_mode: dict[str, list[FinetuneSpec]] = {}
    for one in plan.fine_tunes:
        by_mode.setdefault(one.spec.mode, []).append(one.spec)
    alike: dict[str, list[str]] = {}
    for mode, specs in by_mode.items():
        alike.setdefault(_settings(specs), []).append(mode)
    bases = [base.spec for base in plan.bases.values()]
    sentences = [f"Base models: {_settings(bases)}."] if bases else []
    return sentences + [f"{listed(modes, 'and')}: {settings}." for settings, modes in alike.items()]


def _settings(specs: Sequence[BaseSpec | FinetuneSpec]) -> str:
    """How the trainings were optimised; a setting that differs between them is given with all its values."""
    courses = [spec.course() for spec in specs]
    parts = [_values(OPTIMIZERS.get(course.optimizer, course.optimizer) for course in courses)]
    parts += [
        f"{name} {found}" for field, name in FIELDS.items() if (found := _values(getattr(s, field) for s in specs))
    ]
    parts.append(f"schedule {_values(course.schedule for course in courses)}")
    if warmup := _values(course.warmup_steps or None for course in courses):
        parts.append(f"warm-up of {warmup} steps")
    steps = _values(course.steps for course in courses)
    epochs = _values(course.epochs for course in courses)
    parts.append(f"{steps} steps" if steps else f"at most {epochs} epoch{'' if epochs == '1' else 's'}")
    if patience := _values(course.patience for course in courses):
        metrics = _values(course.metric for course in courses)
        parts.append(f"stopped after {patience} epochs without a better {metrics} on the validation data")
    return ", ".join([*parts, f"seed {_values(spec.seed for spec in specs)}"])


def _values(values: Iterable[Any]) -> str:
    """Distinct values in order; empty if none is set."""
    found = sorted({value for value in values if value is not None}, key=lambda value: (isinstance(value, str), value))
    return listed(found) if found else ""


def _statistics(question: Question, comparisons: Sequence[Comparison]) -> list[str]:
    one, many = question.words
    counts = sorted({comparison.n for comparison in comparisons})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    n_seeds = max(comparison.n_seeds for comparison in comparisons)
    seeds = f"; the {n_seeds} seeds of a {one} were averaged first" if n_seeds > 1 else ""
    sentences = [
        f"The measure is {question.measure.label}{f' ({question.measure.unit})' if question.measure.unit else ''}.",
        f"Differences are paired within a {one} (n = {n} {one if counts == [1] else many}){seeds}.",
    ]
    tested = [comparison for comparison in comparisons if comparison.can_tell]
    if not tested:
        return [*sentences, f"With fewer than {statistics.MIN_UNITS} {many} no interval and no test is given."]
    return [*sentences, _interval(many), _test(tested)]


def _interval(many: str) -> str:
    level, resamples = f"{100 * statistics.LEVEL:g}", f"{statistics.RESAMPLES:,}"
    return f"Intervals are {level} % BCa bootstrap intervals of the mean over {many} ({resamples} resamples; scipy {version('scipy')})."


def _test(tested: Sequence[Comparison]) -> str:
    drawn = f"{statistics.RESAMPLES:,} random flips where those are fewer than all"
    is_exact = all(statistics.is_exact(comparison.n) for comparison in tested)
    text = f"P values are of two-sided sign-flip tests, {'exact' if is_exact else drawn}"
    n = tested[0].n_tested
    return (
        f"{text}, corrected for {n} comparisons by Holm's method (statsmodels {version('statsmodels')})."
        if n > 1
        else f"{text}."
    )


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
