"""What the page shows of language models: losses by domain, by budget and by tokens seen, and which text which branch learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...results import draw, draw_named, gains
from ...results.histories import History, history_of_base, history_of_experiment
from ...results.labels import label_of, setting_columns, settings_of
from ...results.learning import curve, learning_curves
from ...results.question import UNTRAINED, Question
from ...results.sections import Figure, Material, Section, Table
from ...results.summary import columns_of
from ...study.plan import Experiment
from .methods import methods as methods
from .settings import GENERAL
from .specs import seen_until
from .tables import (
    COOL_DOWN,
    TRUNK,
    bits_a_byte,
    branches_of,
    bytes_to_test,
    cool_downs_of,
    texts_of,
    tokens_of,
    trunk_names,
)

MOST_LINES, MOST_ROWS = 6, 30  # six colours
NATS, BITS = "nats a token", "bits a byte"
BITS_ARE = "Bits a byte spread the same loss over the bytes of the text, so that tokenizers compare. "
TOKENS = "million tokens seen, with those of the trunk"
SIDES = {TRUNK: TRUNK, "continued": "trunk continued", "branch": "branch"}


def sections(material: Material) -> list[Section]:
    branches = branches_of(material.summary[material.summary["mode"] != UNTRAINED])
    experiments = material.plan.experiments.values()
    known = {folder: bytes_to_test(Path(folder)) for folder in {one.data for one in experiments}}
    sizes = {one.path: known[one.data] for one in experiments}
    return [
        Section("Branches and their domains", [*beside_trunk(branches, material), *by_domain(branches, material)]),
        Section("How much data it takes", gains.amounts(material, levels=levels(branches))),
        Section("Budgets", [*trunk_budgets(material.summary), *branch_budgets(branches, material.question)]),
        Section("Loss against tokens", against_tokens(material)),
        Section("Losses", [*branch_losses(branches, material.question, sizes), trunk_losses(material.summary, sizes)]),
    ]


def levels(branches: pd.DataFrame) -> list[tuple[str, float]]:
    """Losses that do not depend on the share of a domain's text: means over domains."""
    means = branches.groupby("domain")[["trunk", "continued"]].mean().mean().dropna()
    return [(SIDES[str(side)], float(loss)) for side, loss in means.items()]


def beside_trunk(branches: pd.DataFrame, material: Material) -> list[Figure]:
    """Each domain's loss by the trunk, the trunk continued on all text, and the branch, in one setting."""
    if branches.empty:
        return []
    label, rows = _chosen(branches, material)
    values = (
        rows.groupby("domain", sort=False)[list(SIDES)].mean().rename(columns=SIDES).dropna(axis="columns", how="all")
    )
    values = values[:MOST_ROWS]
    caption = f"{label}. A row is a domain, a mark the loss on its test set; left is better."
    if SIDES["continued"] in values:
        caption += " The trunk continued took as many more tokens of all text at the same learning rates."
    return [
        Figure(
            "domains", "Branches beside their trunk", caption, _told(values),
            draw_named.rows(values, f"loss on the domain's test set, {NATS}"), values.reset_index(),
        )
    ]  # fmt: skip


def by_domain(branches: pd.DataFrame, material: Material) -> list[Figure]:
    """Loss of the trunk and of each domain's branch on each text; absent if there is only one domain."""
    if branches.empty:
        return []
    label, rows = _chosen(branches, material)
    texts = texts_of(rows)
    after = rows.groupby("domain", sort=False)[[f"loss_{text}" for text in texts]].mean().set_axis(texts, axis=1)
    before = rows[[f"base_loss_{text}" for text in texts]].drop_duplicates().mean().set_axis(texts)
    if len(after) < 2:
        return []
    values = pd.concat([before.to_frame(TRUNK).T, after])
    changes = values - values.iloc[0]
    caption = (
        f"{label}. Loss in {NATS} on the test set of a text (column) before, in the row of the trunk, and after learning "
        "from one domain (row); general is all text together. Shaded by the change against the trunk; a dot in the corner "
        "marks a loss that became worse."
    )
    drawing = draw_named.shaded(values, changes, "tested on", "learned from")
    return [Figure("domain_matrix", "Learned from one domain, tested on each", caption, _told(values), drawing,
                   values.rename_axis("learned from").reset_index())]  # fmt: skip


def trunk_budgets(summary: pd.DataFrame) -> list[Figure]:
    """Loss on all text against the tokens that trunk and cool-down saw; absent if there is only one budget."""
    apart = ("base_max_steps", "base_seed")
    trunks, cooled = (
        summary.assign(called=trunk_names(summary, apart)).drop_duplicates("base_hash"),
        cool_downs_of(summary, apart),
    )
    sides = [(trunks, tokens_of(trunks, "base_"), "base_loss_")]
    if len(cooled):
        sides.append((cooled, tokens_of(cooled, "base_") + tokens_of(cooled), "loss_"))
    points = pd.concat(
        pd.DataFrame({"line": rows["called"], "x": tokens, "loss": rows[f"{prefix}{GENERAL}"]})
        for rows, tokens, prefix in sides
    )
    caption = "A mark is the mean over seeds of the loss on the test set of all text, a band goes from the lowest seed to the highest."
    return _budgets("budgets", "Loss by budget", points, caption, TOKENS, "loss on all text")


def branch_budgets(branches: pd.DataFrame, question: Question | None) -> list[Figure]:
    """Loss of branches on their own domain against the tokens of the branch, and against those of its trunk; a figure
    is absent if its budget is not swept."""
    found = []
    for column, prefix, words in (("max_steps", "", "branch"), ("base_max_steps", "base_", "trunk")):
        if question is None or branches.empty or column not in question.settings:
            continue
        lines = [
            (label_of({name: value for name, value in setting.items() if name != column}, question), rows)
            for setting, rows in settings_of(branches, question)
        ]
        points = pd.concat(
            pd.DataFrame(
                {"line": label, "x": tokens_of(rows, prefix), "loss": rows["branch"], "domain": rows["domain"]}
            )
            for label, rows in lines
        )
        means = points.groupby(["line", "x", "domain"], sort=False)["loss"].mean().reset_index()
        caption = "A mark is the mean over domains of the loss on their test sets, a band goes from the lowest domain to the highest."
        name, label = f"{words}_budgets", f"million tokens of the {words}"
        found += _budgets(name, f"Branches by budget of the {words}", means, caption, label, "loss on the own domain")
    return found


def _budgets(name: str, title: str, points: pd.DataFrame, caption: str, label_x: str, label_y: str) -> list[Figure]:
    """Mean, lowest and highest loss for each `line` of the points; absent if every line has a single x."""
    by = points.groupby(["line", "x"], sort=False)["loss"].agg(mean="mean", low="min", high="max").reset_index()
    lines = {str(line): rows.sort_values("x", ignore_index=True) for line, rows in by.groupby("line", sort=False)}
    if all(len(rows) < 2 for rows in lines.values()):
        return []
    shown = dict(list(lines.items())[:MOST_LINES])
    rest = f" {len(shown)} of {len(lines)} lines are drawn." if len(shown) < len(lines) else ""
    alt = "; ".join(f"{line}: " + ", ".join(f"{x:.3g} million {mean:.3f}" for x, mean in zip(rows["x"], rows["mean"], strict=True))
                    for line, rows in shown.items())  # fmt: skip
    named = dict(zip(draw_named.shorter(list(shown)), shown.values(), strict=True))
    drawing = draw.against(named, label_x, f"{label_y}, {NATS}")
    return [Figure(name, title, caption + rest, alt, drawing, points.rename(columns={"x": label_x}))]


def against_tokens(material: Material) -> list[Figure]:
    """Validation loss against tokens seen: trunks with their cool-downs on all text, branches on their own domain."""
    plan, rows = material.plan, material.summary.assign(trunk=trunk_names(material.summary, ("base_seed",)))
    called = _called(rows, material)
    shorter = {training.continues for training in plan.bases.values()}  # the curve of a longer trunk contains theirs
    histories = {str(name): history_of_base(str(name)) for name in rows["base_hash"].unique()}
    trunks = rows[~rows["base_hash"].isin(shorter)].drop_duplicates("trunk").to_dict("records")
    panels = {
        GENERAL: {
            one["trunk"]: curve(histories[one["base_hash"]], _million(plan.bases[one["base_hash"]].spec))
            for one in trunks
        }
    }
    for experiment in plan.fine_tunes:
        if experiment.path in called:
            panel, label = called[experiment.path]
            base = str(experiment.base)
            panels.setdefault(panel, {})[label] = _went_on(experiment, plan.bases[base].spec, histories[base])
    caption = (
        "Loss on the validation part: of all text for trunks and cool-downs (general), of its domain for a branch. A mark is "
        "the evaluation whose weights were kept. Of several seeds the first is drawn."
    )
    return learning_curves("tokens", "Loss against tokens", caption, panels, TOKENS, f"validation loss, {NATS}")


def _called(rows: pd.DataFrame, material: Material) -> dict[str, tuple[str, str]]:
    """By path of each fine-tune that is drawn: the text that it learned from, and its name. Of several seeds, the first
    is drawn."""
    cooled, question = cool_downs_of(rows, ("base_seed",)), material.question
    labels = dict(zip(cooled["path"], cooled["called"], strict=True))
    for setting, group in settings_of(branches_of(rows[rows["mode"] != UNTRAINED]), question) if question else ():
        labels |= dict.fromkeys(group["path"], label_of(setting, question))
    named = rows[rows["path"].isin(labels)]
    named = named.assign(label=[labels[path] for path in named["path"]]).drop_duplicates(["domain", "label"])
    return {one["path"]: (one["domain"], one["label"]) for one in named.to_dict("records")}


def _went_on(experiment: Experiment, trunk: Any, before: History) -> pd.DataFrame:
    """The curve of a fine-tune, which begins at the tokens that its trunk's kept weights have seen. If both were
    evaluated on the same text, the loss of those weights is its first point."""
    spec: Any = experiment.spec
    begun = _million(trunk)(before.kept) if before.kept else 0.0
    own = _million(spec)
    line = curve(history_of_experiment(experiment), lambda epoch: begun + own(epoch))
    kept = curve(before, _million(trunk))
    kept = kept[kept["is_kept"]].assign(is_kept=False)
    is_alike = spec.mode == COOL_DOWN and (spec.eval_tokens, spec.precision) == (trunk.eval_tokens, trunk.precision)
    return pd.concat([kept, line], ignore_index=True) if is_alike and len(kept) and len(line) else line


def _million(spec: Any) -> Callable[[int], float]:
    """Million tokens that a training has seen after an epoch."""
    return lambda epoch: seen_until(spec, epoch)[1] * spec.model.context_length / 1e6


def branch_losses(branches: pd.DataFrame, question: Question | None, sizes: dict[str, dict[str, int]]) -> list[Table]:
    """One row per domain and setting: the loss of trunk, trunk continued and branch; means over seeds."""
    if question is None or branches.empty:
        return []
    keys = [name for name in setting_columns(branches, question) if branches[name].nunique(dropna=False) > 1]
    keys = ["domain", *keys]
    bits = bits_a_byte(branches, sizes)
    own = pd.Series([bits.at[place, domain] for place, domain in branches["domain"].items()], index=branches.index)
    columns = {f"{label}, nats": branches[side] for side, label in SIDES.items()}
    columns |= {f"{label}, bits": branches[side] * own for side, label in SIDES.items()}
    columns |= {
        "general before, nats": branches[f"base_loss_{GENERAL}"],
        "general after, nats": branches[f"loss_{GENERAL}"],
    }
    columns |= {"tokens to learn from": branches["n_train_tokens"]}
    table = pd.concat([branches[keys], pd.DataFrame(columns)], axis=1)
    frame = table.groupby(keys, sort=False, dropna=False).mean().reset_index().dropna(axis="columns", how="all")
    caption = (
        f"Loss in {NATS} on the test set of its own domain; general is all text together. "
        f"{BITS_ARE if own.notna().any() else ''}With several seeds, means over them."
    )
    digits = dict.fromkeys(columns_of(frame), 3) | {"target_data_pct": 2, "tokens to learn from": 0}
    return [Table("branches", "Branches", caption, frame, digits, is_long=len(frame) > 10)]


def trunk_losses(summary: pd.DataFrame, sizes: dict[str, dict[str, int]]) -> Table:
    """One row per text and trunk or cool-down; means over seeds."""
    bits, cooled = bits_a_byte(summary, sizes), cool_downs_of(summary, ("base_seed",))
    trunks = trunk_names(summary, ("base_seed",))[~summary.duplicated("base_hash")]
    models = [(trunks, "base_loss_"), (cooled["called"], "loss_")]
    rows = [
        pd.DataFrame({"model": called, "text": text, NATS: summary[f"{prefix}{text}"].loc[called.index]}).assign(**{
            "perplexity": lambda frame: np.exp(frame[NATS]), BITS: lambda frame, text=text: frame[NATS] * bits[text],
        })
        for called, prefix in models
        for text in texts_of(summary)
    ]  # fmt: skip
    frame = (
        pd.concat(rows).groupby(["model", "text"], sort=False).mean().reset_index().dropna(axis="columns", how="all")
    )
    caption = f"Loss on the test set of each text; general is all of them together. {BITS_ARE if BITS in frame else ''}"
    return Table(
        "trunks",
        "Trunks and cool-downs",
        caption.strip(),
        frame,
        {NATS: 3, BITS: 3, "perplexity": 1},
        is_long=len(frame) > 10,
    )


def _chosen(branches: pd.DataFrame, material: Material) -> tuple[str, pd.DataFrame]:
    """The setting that the page's answer is about, with its branches; by default the last one with the most domains."""
    groups = settings_of(branches, material.question)
    wanted = material.chosen.setting if material.chosen else None
    setting, rows = max(
        enumerate(groups), key=lambda one: (one[1][0] == wanted, one[1][1]["domain"].nunique(), one[0])
    )[1]
    return label_of(setting, material.question), rows


def _told(values: pd.DataFrame) -> str:
    return "; ".join(f"{name}: " + ", ".join(f"{column} {value:.3f}" for column, value in row.dropna().items())
                     for name, row in values.iterrows())  # fmt: skip
