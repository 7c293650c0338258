"""What a last layer sees of windows before and after a fine-tune, drawn by two principal components. Loads torch."""

from functools import partial
from pathlib import Path

import pandas as pd
import torch
from sklearn.decomposition import PCA
from torch import nn

from ...results import draw
from ...results.sections import Figure
from ...store.objects import stored
from ...study import paths
from ...study.plan import Experiment, Plan
from ...study.problems import Refusal
from ..loading import load_model
from .data import Windows, read_people, take_share
from .dataset import class_names
from .gradient_free import last_layer_inputs
from .specs import BaseSpec, FinetuneSpec
from .train import parts_of

MOST_WINDOWS = 60  # per person
MOST_PEOPLE = 6  # the target and the first others


def features_figures(experiment: Experiment, plan: Plan, label: str) -> list[Figure | str]:
    """A sentence and two drawings for one person, by class and by person; or one sentence on why there is none."""
    try:
        table, explained = _table(experiment, plan)
    except (Refusal, OSError) as reason:
        return [f"Not drawn: {reason}"]
    target, people = table["person"].iloc[0], table["person"].nunique()
    about = (
        f"Test windows of {people} people, as the base model and the fine-tune ({label}) of {target} give them to their last layer: "
        f"{target} gains most. PCA (scikit-learn), one for both, which holds {100 * sum(explained):.0f} % of their variance; "
        "distances in it are not distances in the network."
    )
    return [about, *(_figure(table, by) for by in ("class", "person"))]


def _figure(table: pd.DataFrame, by: str) -> Figure:
    panels = {str(model): group.rename(columns={by: "group"}) for model, group in table.groupby("model", sort=False)}
    caption = f"A point a window, a colour and a sign a {by}."
    alt = f"Two panels of {len(table) // len(panels)} points, before and after, by {by}."
    drawn = draw.scatters(panels, "component 1", "component 2")
    return Figure(f"features_by_{by}", f"By {by}", caption, alt, drawn, table)


def _table(experiment: Experiment, plan: Plan) -> tuple[pd.DataFrame, list[float]]:
    """One row per window and model: its place, class and person; and the shares of variance of the two components."""
    assert isinstance(experiment.spec, FinetuneSpec) and experiment.base
    base = plan.bases[experiment.base].spec
    assert isinstance(base, BaseSpec)
    others = [name for name in base.participants if name != experiment.spec.target]
    people = [experiment.spec.target, *others[: MOST_PEOPLE - 1]]
    read = partial(read_people, experiment.data)
    windows = {name: _few(read((name,), ("test",))) for name in people}
    windows[experiment.spec.target] = _few(parts_of(experiment.spec.target, experiment.spec.adapt_on, read)["test"])
    models = {"base model": _published(paths.base_model(experiment.base), experiment.base, plan),
              "fine-tuned": _published(f"{experiment.path}/best_model.pt", experiment.hash, plan)}  # fmt: skip
    classes = class_names(experiment.spec.data, 1 + max(int(one.y.max()) for one in windows.values()))
    about = pd.DataFrame(
        [(name, classes[int(label)]) for name in people for label in windows[name].y.tolist()],
        columns=["person", "class"],
    )
    seen = [
        last_layer_inputs(model, [one.x.between(0, len(one)) for one in windows.values()]) for model in models.values()
    ]
    pca = PCA(2, random_state=0).fit(torch.cat(seen).numpy())
    placed = []
    for name, one in zip(models, seen, strict=True):
        x, y = pca.transform(one.numpy()).T
        placed.append(about.assign(model=name, x=x, y=y))
    return pd.concat(placed, ignore_index=True), [float(share) for share in pca.explained_variance_ratio_]


def _few(windows: Windows) -> Windows:
    return take_share(windows, min(1.0, MOST_WINDOWS / len(windows)), seed=0)


def _published(path: str, name: str, plan: Plan) -> nn.Module:
    """A published model, verified; if it is not there, the one in the store."""
    file = Path(path) if Path(path).exists() else stored(plan.study.store, name).model
    return load_model(file, plan.study.store, own_class=_own_class(plan, name))


def _own_class(plan: Plan, name: str) -> str | None:
    """The user's own class of a model, as this study names it; None if the model has none."""
    specs = (
        [plan.bases[name].spec]
        if name in plan.bases
        else [one.spec for one in plan.experiments.values() if one.hash == name]
    )
    return specs[0].own_class if specs else None
