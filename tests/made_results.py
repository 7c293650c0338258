"""Results of a study that was never trained: published folders with made-up numbers, and what a page makes of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rootstock.results.answer import chosen
from rootstock.results.comparisons import compare
from rootstock.results.sections import Figure, Material, Section, Table
from rootstock.results.summary import summary_of
from rootstock.results.svg import svg_of
from rootstock.study import paths
from rootstock.study.parts import explainer_of
from rootstock.study.plan import Plan


def publish(plan: Plan, measured: Callable[[Any], dict], losses: Callable[[Any], list[float]] = lambda _: []) -> None:
    """Write what experiments and base models publish, below the working folder. `measured` and `losses` (of each epoch) are
    asked for each training of the plan; the epoch with the lowest loss is the kept one."""
    for experiment in plan.experiments.values():
        folder = Path(experiment.path)
        folder.mkdir(parents=True)
        history, best = _history(losses(experiment) if experiment.spec.trains else [])
        (folder / "losses.json").write_text(json.dumps(history))
        done = {
            "metrics": measured(experiment),
            "epochs": len(history),
            "seconds": 1.0,
            "hash": experiment.hash,
            "best_epoch": best,
        }
        (folder / "metrics.json").write_text(json.dumps(done))
    Path("base_models").mkdir()
    for name, training in plan.bases.items():
        history, best = _history(losses(training))
        Path(paths.BASE_METADATA.format(hash=name)).write_text(json.dumps({"history": history, "best_epoch": best}))


def _history(losses: Sequence[float]) -> tuple[list[dict], int]:
    rows = [{"epoch": k, "train_loss": loss / 2, "val_loss": loss} for k, loss in enumerate(losses, 1)]
    return rows, 1 + losses.index(min(losses)) if losses else 0


def material_of(plan: Plan, baselines: Sequence[dict] = ()) -> Material:
    reporter = plan.study.task.reporter()
    summary = summary_of(plan, reporter.result_columns)
    question = explainer_of(reporter).question(summary)
    comparisons = compare(summary, question) if question else []
    return Material(
        plan, summary, list(baselines), question, comparisons, chosen(comparisons, question) if question else None
    )


def parts_of(material: Material) -> dict[str, Figure | Table]:
    """The figures and tables of a task's sections, by name."""
    sections: list[Section] = explainer_of(material.plan.study.task.reporter()).sections(material)
    parts = [part for section in sections for part in section.parts if not isinstance(part, str)]
    assert len({part.name for part in parts}) == len(parts)
    return {part.name: part for part in parts}


def drawn(material: Material) -> dict[str, str]:
    """The figures of a task's sections as SVG, by name."""
    figures = {name: part for name, part in parts_of(material).items() if isinstance(part, Figure)}
    return {name: svg_of(part.drawing, name, part.title, part.alt) for name, part in figures.items()}


def methods_of(plan: Plan) -> str:
    return " ".join(explainer_of(plan.study.task.reporter()).methods(plan))
