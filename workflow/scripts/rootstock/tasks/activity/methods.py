"""Sentences for the methods section of a paper about activity recognition; every number comes from the specs."""

from collections.abc import Iterable, Sequence

from ...results.wording import counted, listed, numbered, shown, values_of
from ...study.plan import Plan
from .settings import AUGMENTATION_DEFAULTS, GRADIENT_FREE
from .specs import BaseSpec, DataIdentity, FinetuneSpec, Model

Specs = Sequence[BaseSpec | FinetuneSpec]

MODES = {  # what a fine-tune trains, and on what
    "full_fine_tuning": "trained all weights of the base model on the windows of the others and of the person",
    "target_only_fine_tuning": "trained all weights of the base model on the person's windows alone",
    "last_layer_only": "trained the last layer of the base model on the person's windows alone",
    "adapters": "trained low-rank updates of every convolution and linear layer on the person's windows alone",
    "prototypes": "set the last layer to tell the nearest class mean in the base model's last features, without a gradient",
    "normalise": "estimated input statistics and those of BatchNorm layers anew on the person's windows, without labels",
    "target_only": "trained the same network from scratch on the person's windows alone",
}


def methods(plan: Plan) -> list[str]:
    bases = [training.spec for training in plan.bases.values() if isinstance(training.spec, BaseSpec)]
    tuned = [one.spec for one in plan.fine_tunes if isinstance(one.spec, FinetuneSpec)]
    specs = [*bases, *tuned]
    models = dict.fromkeys(shown_model(model) for spec in specs if (model := spec.model))
    return [
        *_of_data(specs),
        *_of_people(plan, bases),
        *(
            f"The network was {model}; it standardised channels by mean and sd of the data that it first learned from."
            for model in models
        ),
        *_of_bases(bases),
        *_of_modes(tuned),
        *_of_augmentation([spec for spec in specs if spec.use_augmentation is not None]),
        _of_scores(specs),
    ]


def shown_model(model: Model) -> str:
    settings = ", ".join(f"{name} {shown(value)}" for name, value in model.settings.items())
    return f"{model.architecture} ({settings})" if settings else model.architecture


def _of_data(specs: Specs) -> list[str]:
    return [_windows(data) for data in dict.fromkeys(spec.data.model_copy(update={"content": None}) for spec in specs)]


def _windows(data: DataIdentity) -> str:
    if data.version is None:
        return f"Windows were from the folder “{data.name}”, split there into training, validation and test."
    told = f"The data were the {data.name} recordings ({data.version}), cut into windows of {data.window_size} samples"
    told += f" that start every {data.window_stride} samples"
    if data.split:
        shares = "/".join(shown(round(100 * share, 6)) for share in data.split)
        told += f"; each recording was split by time, {shares} % for training, validation and test"
    if data.split_by:
        told += " (train and validation windows trained, test windows chose the epoch; whole recordings of another arm tested)"
    told += "; a part shorter than a window was padded with zeros" if data.pad else ""
    return told + ("; recordings of the left arm were mirrored." if data.mirror else ".")


def _of_people(plan: Plan, bases: Sequence[BaseSpec]) -> list[str]:
    people = {name: training.spec for name, training in plan.bases.items()}
    tuned = [one.spec for one in plan.experiments.values() if isinstance(one.spec, FinetuneSpec)]
    if not bases or not tuned:
        return []
    learners = [(spec.target, people[spec.base]) for spec in tuned if spec.base]
    seen = any(isinstance(base, BaseSpec) and target in base.participants for target, base in learners)
    targets = counted(len({spec.target for spec in tuned}), "person", "people")
    counts = listed(sorted({len(base.participants) for base in bases}))
    apart = "some of which had seen that person" if seen else "none of which had seen that person"
    return [f"For each of {targets} we fine-tuned base models of {counts} people, {apart}."]


def _of_bases(bases: Sequence[BaseSpec]) -> list[str]:
    return [f"Base models were trained {_course(bases)}."] if bases else []


def _of_modes(tuned: Sequence[FinetuneSpec]) -> list[str]:
    """One sentence per mode."""
    told = []
    for mode in dict.fromkeys(spec.mode for spec in tuned):
        own = [spec for spec in tuned if spec.mode == mode]
        share = _amount(own)
        if parts := _percent(spec.target_batch_pct for spec in own):
            share += f", which made up {parts} of a batch"
        frozen = "; BatchNorm kept the base model's statistics" if all(spec.freeze_batch_norm for spec in own) else ""
        course = "" if mode in GRADIENT_FREE else f", {_course(own)}{frozen}"
        kept = "; the base model was kept where that was no worse on the validation set" * any(
            spec.keep_base_if_worse for spec in own
        )
        mixed = _percent(spec.base_share for spec in own if spec.base_share)
        mixed = f"; its weights were then mixed with {mixed} of the base model's" if mixed else ""
        told.append(f"Mode {mode} {MODES[mode]} ({share}){course}{mixed}{kept}.")
    return told


def _amount(specs: Sequence[FinetuneSpec]) -> str:
    """How much of a person's windows, as shares or as windows per class."""
    shares = _percent(spec.target_data_pct for spec in specs)
    shots = sorted({spec.target_shots for spec in specs if spec.target_shots is not None})
    found = [f"{shares} of these"] if shares else []
    return " or ".join(found + ([f"{listed(shots)} a class"] if shots else []))


def _percent(shares: Iterable[float | None]) -> str:
    """Shares as percentages; empty if none is set."""
    given = sorted({share for share in shares if share is not None})
    return f"{listed(round(100 * share, 6) for share in given)} %" if given else ""


def _course(specs: Specs) -> str:
    """How trainings were optimised."""
    rate, schedule, decay = (values_of(specs, name) for name in ("lr", "schedule", "weight_decay"))
    epochs, size = numbered(specs, "max_epochs", "epoch", "epochs"), values_of(specs, "batch_size")
    told = f"with AdamW (learning rate {rate}, schedule {schedule}, weight decay {decay}) for at most {epochs} in batches of {size}"
    if any(spec.gradient_clip for spec in specs):
        told += f", gradient norm at most {values_of(specs, 'gradient_clip')}"
    if any(spec.label_smoothing for spec in specs):
        told += f", label smoothing {values_of(specs, 'label_smoothing')}"
    if any(spec.pos_weight for spec in specs):
        told += f", weight of the positive class {values_of(specs, 'pos_weight')}"
    if any(spec.early_stopping_patience for spec in specs):
        told += f", until {numbered(specs, 'early_stopping_patience', 'epoch', 'epochs')} had brought nothing better"
    return f"{told}, in {values_of(specs, 'precision')}, seed {values_of(specs, 'seed', 'and')}"


def _of_augmentation(specs: Specs) -> list[str]:
    changed = [spec for spec in specs if spec.use_augmentation]
    if not changed:
        return ["Windows were not augmented."]
    who = "Training windows" if len(changed) == len(specs) else "In a part of the trainings windows"
    strengths = ", ".join(f"{name} {values_of(changed, name)}" for name in AUGMENTATION_DEFAULTS)
    return [f"{who} were augmented ({strengths})."]


def _of_scores(specs: Specs) -> str:
    by = {"loss": "lowest loss", "f1": "highest F1"}
    metrics = {spec.early_stopping_metric for spec in specs} - {None}
    chosen = listed(by[metric] for metric in by if metric in metrics)
    kept = [f"the epoch with the {chosen} on the validation set was kept"] * bool(metrics & by.keys())
    kept += ["the last epoch was kept, of trainings that learned from the validation set too"] * ("last" in metrics)
    told = " or ".join(kept) or "nothing was trained"
    return f"{told[0].upper()}{told[1:]}; we report the accuracy on the person's test set."
