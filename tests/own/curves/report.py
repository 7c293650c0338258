"""Errors before and after, a row a place."""

from rootstock.results.figure import dots_by_row
from rootstock.results.summary import as_text


def result_columns(metrics):
    return {"loss_before": metrics["before"]["loss"], "loss_after": metrics["after"]["loss"]}


def render(summary, baselines):
    shown = [name for name in ("place", "share", "loss_before", "loss_after") if name in summary]
    return as_text(summary[shown]) + "\n"


def draw(summary, path):
    dots_by_row([("after", summary["loss_after"])], "squared error", path)
