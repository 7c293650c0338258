"""Activity recognition as the engine sees it: build a trainee from a spec, train it, measure it."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...engine.files import load
from ...engine.loop import Context, Fitted, Outcome, fit
from ...engine.metrics import classification_metrics, confusion_counts
from ...engine.optimizers import adamw
from ...engine.schedule import make_schedule
from ...engine.seeding import seed_step
from ...study.identity import canonical
from ...study.problems import Refusal
from .augment import Augmentation, epoch_key, mixup_draws
from .batches import composed_batches, even_batches
from .data import Windows, join, read_people, take_share
from .models import Standardised, build_model, last_layer, try_out
from .settings import BaseSpec, FinetuneSpec, Model

EVALUATION_BATCH = 512


def train_base(spec: BaseSpec, folder: str, expect: dict[str, Any], context: Context) -> Outcome:
    """Train on the train and val parts of the base participants; their test parts choose the epoch."""
    train = read_people(folder, spec.participants, ("train", "val"))
    check = read_people(folder, spec.participants, ("test",))
    join(train, check)  # of one shape and kind
    _check_expectations(train, expect)
    if context.parent:  # weights and statistics of the stage before, and the classes that it knows
        model, n_classes = _model_of(context.parent, spec.model, train, "the base windows")
        _check_labels(train, n_classes, "base train windows")
    else:
        n_classes = _n_classes(train, spec)
        seed_step(spec.seed, 0)
        model = build_model(spec.model, train.x.shape[1], _n_outputs(train, n_classes))
        try_out(model, train.x, _n_outputs(train, n_classes))
        model.learn_statistics(train.x)
    _check_labels(check, n_classes, "base test windows")
    context.say(
        f"base: {len(train)} windows of {len(spec.participants)} people to train, {len(check)} to choose the epoch"
    )
    trainee = WindowTrainee(model, train, check, spec, n_classes, context)
    fitted = _fit(trainee, spec, context)
    metrics = {"base_test": trainee.measure(check), "n_train": len(train)}
    return _outcome(model, spec.model, fitted, metrics, train, n_classes)


def train_finetune(
    spec: FinetuneSpec,
    folder: str,
    expect: dict[str, Any],
    base: dict[str, Any] | None,
    base_spec: BaseSpec | None,
    context: Context,
) -> Outcome:
    """Fine-tune on the target, from `base` or from scratch, and measure both models on the target's test part."""
    target = {split: read_people(folder, (spec.target,), (split,)) for split in ("train", "val", "test")}
    _check_expectations(target["train"], expect)
    model, n_classes = _starting_model(spec, base, target["train"])
    architecture = spec.model if base is None else base_spec.model
    try_out(model, target["train"].x, _n_outputs(target["train"], n_classes))
    for split, windows in target.items():
        join(target["train"], windows)  # of one shape and kind
        _check_labels(windows, n_classes, f"{spec.target}'s {split} windows")
    model = model.to(context.device)
    metrics: dict[str, Any] = {}
    if base is not None:
        measure = Measure(model, n_classes, context, base_spec.pos_weight)  # its own loss, whatever is made of it
        everything = join(*target.values())
        metrics = {"base_test": measure(target["test"]), "base_all": measure(everything)}
    if spec.mode == "base_only":
        fitted = Fitted({k: v.cpu() for k, v in model.state_dict().items()}, [], 0, 0, 0.0)
        return _outcome(
            model, architecture, fitted, metrics | {"test": metrics["base_test"]}, target["train"], n_classes
        )

    own = take_share(target["train"], spec.target_data_pct, spec.seed)
    train, n_base = own, 0
    if spec.mode == "full_fine_tuning":
        others = tuple(person for person in base_spec.participants if person != spec.target)  # its val part chooses
        shared = read_people(folder, others, ("train", "val")) if others else own.take(torch.arange(0))
        train, n_base = join(shared, own), len(shared)
    if spec.mode == "target_only":
        model.learn_statistics(own.x)
    if spec.mode == "last_layer_only":
        model.requires_grad_(False)
        last_layer(model).requires_grad_(True)
    context.say(
        f"{spec.mode} on {spec.target}: {len(own)} of {len(target['train'])} target windows, {n_base} base windows"
    )
    trainee = WindowTrainee(model, train, target["val"], spec, n_classes, context, n_base=n_base)
    fitted = _fit(trainee, spec, context)
    metrics |= {"test": trainee.measure(target["test"]), "val": trainee.measure(target["val"])}
    return _outcome(
        model, architecture, fitted, metrics | {"n_target_train": len(own), "n_train": len(train)}, train, n_classes
    )


class Measure:
    """Metrics of a model on windows; the loss is the plain one, without smoothing or augmentation."""

    def __init__(self, model: nn.Module, n_classes: int, context: Context, pos_weight: float | None):
        self.model, self.n_classes, self.pos_weight = model, n_classes, pos_weight
        self.device, self.world = context.device, context.world

    @torch.inference_mode()
    def __call__(self, windows: Windows) -> dict[str, Any]:
        self.model.eval()
        counts = torch.zeros(self.n_classes, self.n_classes, dtype=torch.int64)
        loss_sum = torch.zeros(1, dtype=torch.float64)
        for index in self.world.share(torch.arange(len(windows))).split(EVALUATION_BATCH):
            if not len(index):
                continue  # more processes than windows
            x, y = windows.x[index].to(self.device), windows.y[index].to(self.device)
            logits = self.model(x)
            loss_sum += window_loss(logits, _soft(y, self.n_classes), 0.0, self.pos_weight).item()
            counts += confusion_counts(_predicted(logits), y.long(), self.n_classes).cpu()
        return classification_metrics(self.world.sum(counts), self.world.sum(loss_sum).item())


class WindowTrainee:
    """Windows and a network, in the shape that the engine's loop trains."""

    def __init__(
        self,
        model: Standardised,
        train: Windows,
        check: Windows,
        spec: BaseSpec | FinetuneSpec,
        n_classes: int,
        context: Context,
        n_base: int = 0,
    ):
        self.model, self.spec, self.n_classes, self.n_base = model.to(context.device), spec, n_classes, n_base
        self.device = context.device
        self.x, self.y = train.x.to(self.device), train.y.to(self.device)
        self.check = check
        self.measure = Measure(self.model, n_classes, context, spec.pos_weight)
        self.augmentation = _augmentation(spec)
        self.mixup: tuple[int, Tensor, Tensor] | None = None

    def batches(self, epoch: int) -> list[Tensor]:
        """A new order each epoch, in batches as even as can be; with `target_batch_pct` each is composed."""
        generator = torch.Generator().manual_seed(epoch_key(self.spec.seed, epoch))
        share = getattr(self.spec, "target_batch_pct", None)
        if share is None:
            return even_batches(torch.randperm(len(self.y), generator=generator), self.spec.batch_size)
        return composed_batches(self.n_base, len(self.y) - self.n_base, self.spec.batch_size, share, generator)

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        x, target = self._inputs(samples, epoch)
        if self.spec.mixup_alpha:
            weight, partner = self._mixup(epoch, samples)
            other_x, other_target = self._inputs(partner, epoch)
            weight = weight.to(self.device)
            x = weight[:, None, None] * x + (1 - weight[:, None, None]) * other_x
            target = weight[:, None] * target + (1 - weight[:, None]) * other_target
        return window_loss(model(x), target, self.spec.label_smoothing, self.spec.pos_weight)

    def evaluate(self) -> dict[str, Any]:
        return self.measure(self.check)

    def train_mode(self) -> None:
        """Frozen parts, and BatchNorm where the spec says so, keep behaving as in the base model."""
        self.model.train()
        if getattr(self.spec, "mode", None) == "last_layer_only":
            self.model.eval()
        elif getattr(self.spec, "freeze_batch_norm", None):
            for layer in self.model.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    def _inputs(self, samples: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        samples = samples.to(self.device)
        x = self.x[samples]
        if self.augmentation:
            x = self.augmentation(x, self.model.std, samples, epoch_key(self.spec.seed, epoch))
        return x, _soft(self.y[samples], self.n_classes)

    def _mixup(self, epoch: int, samples: Tensor) -> tuple[Tensor, Tensor]:
        if self.mixup is None or self.mixup[0] != epoch:
            self.mixup = (epoch, *mixup_draws(self.spec.mixup_alpha, self.spec.seed, epoch, len(self.y)))
        return self.mixup[1][samples], self.mixup[2][samples]


def window_loss(logits: Tensor, target: Tensor, smoothing: float, pos_weight: float | None) -> Tensor:
    """Summed loss of logits [N, outputs] against soft targets [N, outputs]: BCE for one logit, else cross entropy."""
    if logits.shape[1] == 1:
        target = target * (1 - smoothing) + smoothing / 2
        weight = None if pos_weight is None else torch.tensor(pos_weight, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="sum")
    return F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")


def load_model(content: dict[str, Any], spec_model: Model, where: str) -> Standardised:
    """The network of a `model.pt`, rebuilt from what the file itself says."""
    try:
        model = build_model(spec_model, content["in_channels"], content["n_outputs"])
        model.load_state_dict(content["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise Refusal(f"{where}: of another architecture than its spec says: {str(error).splitlines()[0]}") from None
    return model


def load_published(path: str | Path) -> Standardised:
    """A trained model from any `model.pt`, `best_model.pt` or `base_models/<hash>.pt`, ready to be called."""
    content = load(path)
    if not isinstance(content, dict) or "spec" not in content:
        raise Refusal(f"{path}: is not a model of Rootstock")
    return load_model(content, Model.model_validate(content["architecture"]), str(path)).eval()


def _starting_model(spec: FinetuneSpec, base: dict[str, Any] | None, train: Windows) -> tuple[Standardised, int]:
    if base is None:
        n_classes = _n_classes(train, spec)
        seed_step(spec.seed, 0)
        return build_model(spec.model, train.x.shape[1], _n_outputs(train, n_classes)), n_classes
    return _model_of(base, BaseSpec.model_validate(base["spec"]).model, train, f"windows of {spec.target}")


def _model_of(base: dict[str, Any], architecture: Model, train: Windows, whose: str) -> tuple[Standardised, int]:
    """A base model and how many classes it knows, where the windows `train` are of the kind that it learned on."""
    model = load_model(base, architecture, f"base model {base['hash']}")
    if base["in_channels"] != train.x.shape[1] or base["binary"] != train.is_binary:
        raise Refusal(
            f"base model {base['hash']}: was trained on {base['in_channels']} channels, "
            f"{'binary' if base['binary'] else 'class'} labels; {whose} have {train.x.shape[1]} channels, {train.y.dtype} labels"
        )
    return model, base["n_classes"]


def _fit(trainee: WindowTrainee, spec: BaseSpec | FinetuneSpec, context: Context) -> Fitted:
    optimizer = adamw(trainee.model, spec.lr, spec.weight_decay, compiled=context.compile)
    steps = spec.max_epochs * len(trainee.batches(1))
    fitted = fit(
        trainee,
        context,
        optimizer=optimizer,
        schedule=make_schedule(spec.schedule, optimizer, spec.lr, steps),
        max_epochs=spec.max_epochs,
        gradient_clip=spec.gradient_clip,
        metric=spec.early_stopping_metric,
        patience=spec.early_stopping_patience,
        seed=spec.seed,
        precision=spec.precision,
        keeps_state=spec.schedule == "constant",
    )
    trainee.model.load_state_dict(fitted.state)
    return fitted


def _outcome(
    model: Standardised, architecture: Model, fitted: Fitted, metrics: dict, windows: Windows, n_classes: int
) -> Outcome:
    content = {
        "model": fitted.state,
        "architecture": json.loads(canonical(architecture)),
        "in_channels": windows.x.shape[1],
        "n_outputs": _n_outputs(windows, n_classes),
        "n_classes": n_classes,
        "binary": windows.is_binary,
    }
    metrics["parameters"] = sum(p.numel() for p in model.parameters())
    return Outcome(content, metrics, fitted)


def _augmentation(spec: BaseSpec | FinetuneSpec) -> Augmentation | None:
    if not spec.use_augmentation:
        return None
    return Augmentation(spec.aug_prob, spec.jitter_std, spec.magnitude_range, spec.time_warp, spec.rotation_std)


def _n_classes(windows: Windows, spec: BaseSpec | FinetuneSpec) -> int:
    """Classes of the model; settings for the other kind of labels are refused, not ignored."""
    given, found = spec.data.n_classes, int(windows.y.max()) + 1
    if windows.is_binary:
        if given is not None:
            raise Refusal(f"data.n_classes: {given} is for int64 classes, the data has binary labels; remove it")
        return 2
    if spec.pos_weight is not None:
        raise Refusal(f"base.pos_weight: {spec.pos_weight} is for binary labels, the data has int64 classes; remove it")
    if given is not None and given < found:
        raise Refusal(f"data.n_classes: {given} is too few, the data has class {found - 1}; give at least {found}")
    return given or max(found, 2)


def _n_outputs(windows: Windows, n_classes: int) -> int:
    return 1 if windows.is_binary else n_classes


def _check_expectations(windows: Windows, expect: dict[str, Any]) -> None:
    wanted, found = expect.get("window_size"), windows.x.shape[2]
    if wanted not in (None, found):
        raise Refusal(
            f"data.window_size: {wanted} samples, but {windows.name} has windows of {found}; correct it or remove it"
        )


def _check_labels(windows: Windows, n_classes: int, what: str) -> None:
    if int(windows.y.max()) >= n_classes:
        raise Refusal(
            f"data.n_classes: {what} have class {int(windows.y.max())}, the model knows 0 to {n_classes - 1}; set data.n_classes"
        )


def _predicted(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _soft(y: Tensor, n_classes: int) -> Tensor:
    """Targets as the loss wants them: [N, 1] of 0/1 for one logit, else one-hot [N, classes]."""
    return y[:, None].float() if y.is_floating_point() else F.one_hot(y, n_classes).float()
