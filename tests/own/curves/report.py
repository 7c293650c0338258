"""Errors before and after, a row a place."""

from rootstock.results.figure import dots_by_row
from rootstock.results.summary import as_text


def result_columns(metrics):
    return {"loss_before": metrics["before"]["loss"], "loss_after": metrics["after"]["loss"]}


def render(summary, baselines):
    return as_text(summary[["place", "loss_before", "loss_after"]]) + "\n"


def draw(summary, path):
    dots_by_row([("after", summary["loss_after"])], "squared error", path)
