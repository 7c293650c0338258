"""Activity recognition as a job sees it: windows are read, a network is trained on them and measured."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ...engine.checkpoint import to_cpu
from ...engine.loop import Outcome, fit, untrained
from ...engine.low_rank import add_to_weights, plainly_named
from ...engine.models import count_parameters, rebuilt
from ...engine.progress import Context, Fitted
from ...engine.seeding import seed_step
from ...study.parts import Inputs, Start
from ...study.problems import Refusal
from .amount import own_windows
from .data import Windows, join, read_people
from .folder import SPLITS
from .gradient_free import calibrate
from .kept import keep_base_if_asked, keep_changes_only, mixed_with_base
from .labels import check_expectations, check_parts, n_classes_of, n_outputs_of
from .models import Standardised, build_model, last_layer, try_out
from .recordings import parts_by_recording
from .settings import GRADIENT_FREE
from .specs import BaseSpec, FinetuneSpec, Model
from .trainee import Measure, WindowTrainee

Read = Callable[[tuple[str, ...], tuple[str, ...]], Windows]  # the windows of some people and parts in one


def train_base(spec: BaseSpec, inputs: Inputs, context: Context) -> Outcome:
    """Train on the train and val sets of the base participants; their test sets choose the epoch, or train too."""
    train, check = base_windows(spec, partial(read_people, inputs.folder, say=context.say), inputs.expect)
    if inputs.start:  # weights and statistics of the stage before, and the classes that it knows
        model, n_classes = _model_of(inputs.start, spec.model, train, "the base windows")
    else:
        model, n_classes = _new_model(spec, spec.model, train)
        model.learn_statistics(train.x.two_alike())
    check_parts({"train": train, "test": check}, n_classes, "base")
    choosing = "the last epoch is kept" if spec.trains_on_all else f"{len(check)} to choose the epoch"
    context.say(f"base: {len(train)} windows of {len(spec.participants)} people to train, {choosing}")
    trainee = WindowTrainee(model, spec.model, train, check, spec, n_classes, context)
    fitted = fit(trainee, spec, context)
    join(train, check).require_unchanged()
    return _outcome(trainee, fitted, _measured(spec, "base_test", trainee, fitted) | {"n_train": len(train)})


def train_finetune(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """Fine-tune on the target, from its base or from scratch, and measure both models on the target's test set."""
    target = _Target(spec, inputs, context)
    own = own_windows(spec, target.train, target.n_classes, context.say)
    train, n_base = _training_windows(spec, inputs, own, context)
    _prepare_model(spec, target.model, own)
    context.say(
        f"{spec.mode} on {spec.target}: {len(own)} of {len(target.train)} target windows, {n_base} base windows"
    )
    architecture = _architecture(spec, inputs.start)
    trainee = WindowTrainee(target.model, architecture, train, target.val, spec, target.n_classes, context, n_base)
    if spec.mode in GRADIENT_FREE:
        shared = _base_windows(spec, inputs, context) if spec.mode == "prototypes" else None
        calibrate(spec.mode, trainee.model, own, shared, spec.prototype_prior, context.say)
        fitted = Fitted(to_cpu(trainee.model.state_dict()), {}, [], 0, 0, 0.0)
    else:
        fitted = fit(trainee, spec, context)
    if spec.base_share:
        fitted = mixed_with_base(fitted, trainee.model, inputs.base.content["model"], spec.base_share)
    metrics = target.measured | {"test": trainee.measure(target.test)} | _measured(spec, "val", trainee, fitted)
    join(train, *target.parts.values()).require_unchanged()
    outcome = _outcome(trainee, fitted, metrics | {"n_target_train": len(own), "n_train": len(train)})
    if spec.base:
        base = inputs.base.content["model"]
        keep_base_if_asked(spec, outcome, base, target.base_val, context.say)
        keep_changes_only(spec, outcome, base)
    return outcome


def measure_base(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """The base model on the target's windows."""
    target = _Target(spec, inputs, context)
    metrics = target.measured | {"test": target.measured["base_test"], "parameters": count_parameters(target.model)}
    return untrained(inputs.base.content, metrics)


def load_model(content: dict[str, Any], where: str) -> Standardised:
    """The network with its normalisation. It takes windows [N, channels, samples] as recorded, and refuses others."""
    model = rebuilt(content, lambda: _built(content, Model.model_validate(content["architecture"])), where)
    model.register_forward_pre_hook(require_windows)
    return model


def require_windows(model: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    """Raise `Refusal` if a network is called with anything but windows of its channels."""
    assert isinstance(model, Standardised)
    x, channels = inputs[0], len(model.mean)
    wanted = f"model: takes float32 windows [N, {channels} channels, samples]"
    if not isinstance(x, torch.Tensor):
        raise Refusal(f"{wanted}, not {type(x).__name__}; give torch.as_tensor(x)")
    if x.dim() == 2 and x.shape[0] == channels:
        raise Refusal(f"{wanted}, not {list(x.shape)}; give one window as x[None]")
    if x.dim() != 3 or x.shape[1] != channels:
        turned = "; give x.transpose(1, 2)" if x.dim() == 3 and x.shape[2] == channels else ""
        raise Refusal(f"{wanted}, not {list(x.shape)}{turned}")
    if x.dtype != model.mean.dtype:
        raise Refusal(f"{wanted}, not {x.dtype}; give x.to({model.mean.dtype})")


def base_windows(spec: BaseSpec, read: Read, expect: Mapping[str, Any]) -> tuple[Windows, Windows]:
    """The windows that a base model learns from, and those that choose its epoch. Raise `Refusal` if they are not of
    one kind or not as expected."""
    train, check = read(spec.participants, _learned(spec)), read(spec.participants, ("test",))
    join(train, check)
    check_expectations(train, expect)
    return train, check


def target_windows(spec: FinetuneSpec, read: Read, expect: Mapping[str, Any]) -> dict[str, Windows]:
    """The parts of the target's windows. Raise `Refusal` if they are not of one kind or not as expected."""
    parts = parts_of(spec.target, spec.adapt_on, read)
    join(*parts.values())
    check_expectations(parts["train"], expect)
    return parts


def parts_of(person: str, adapt_on: tuple[int, ...] | None, read: Read) -> dict[str, Windows]:
    """The windows of one person that train, choose the epoch and test: by files, or with `adapt_on` by recordings."""
    if adapt_on is None:
        return {split: read((person,), (split,)) for split in SPLITS}
    roles = {"train": read((person,), ("train", "val")), "val": read((person,), ("test",))}
    return parts_by_recording(roles, read((person,), SPLITS), adapt_on)


def require_kind(base: Mapping[str, Any], name: str, train: Windows, whose: str) -> None:
    """Raise `Refusal` if windows are not of the kind that a base model learned on; `base` is its file's content."""
    if base["in_channels"] != train.x.shape[1] or base["binary"] != train.is_binary:
        kind = "binary" if base["binary"] else "class"
        raise Refusal(
            f"base model {name}: was trained on {base['in_channels']} channels, {kind} labels; "
            f"{whose} have {train.x.shape[1]} channels, {train.y.dtype} labels"
        )


class _Target:
    """The target's windows, and the model that a fine-tune starts with, measured on them."""

    def __init__(self, spec: FinetuneSpec, inputs: Inputs, context: Context):
        parts = target_windows(spec, partial(read_people, inputs.folder, say=context.say), inputs.expect)
        self.parts = parts
        self.train, self.val, self.test = parts.values()
        self.train = join(self.train, self.val) if spec.trains_on_all else self.train
        model, self.n_classes = _starting_model(spec, inputs.start, self.train)
        try_out(model, self.train.x.between(0, 2), n_outputs_of(self.train, self.n_classes))
        check_parts(parts, self.n_classes, f"{spec.target}'s")
        self.model = model.to(context.device)
        self.base_val: dict[str, Any] = {}
        self.measured = self._measure(inputs.start, context) if inputs.start else {}

    def _measure(self, start: Start, context: Context) -> dict[str, Any]:
        """Metrics of the unchanged base model, with its own loss whatever the fine-tune's is."""
        measure = Measure(self.model, self.n_classes, context, _spec_of(start).pos_weight)
        found = [measure.counted(windows) for windows in self.parts.values()]
        self.base_val = measure.together(found[1])
        return {"base_test": measure.together(found[-1]), "base_all": measure.together(*found)}


def _prepare_model(spec: FinetuneSpec, model: Standardised, own: Windows) -> None:
    """Freeze what the mode does not train, or add low-rank updates; from scratch, learn the target's statistics."""
    if spec.mode == "target_only":
        model.learn_statistics(own.x.two_alike())
    if spec.mode == "last_layer_only":
        model.requires_grad_(False)
        last_layer(model).requires_grad_(True)
    if spec.rank is not None and spec.alpha is not None:
        seed_step(spec.seed, 0)
        add_to_weights(model, spec.rank, spec.alpha)


def _training_windows(spec: FinetuneSpec, inputs: Inputs, own: Windows, context: Context) -> tuple[Windows, int]:
    """The windows that a fine-tune learns from, base windows first, and the number of base windows."""
    is_beside_others = spec.mode == "full_fine_tuning" or spec.target_batch_pct
    shared = _base_windows(spec, inputs, context) if is_beside_others else None
    return (own, 0) if shared is None else (join(shared, own), len(shared))


def _base_windows(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Windows | None:
    """The base model's training windows, except the target's: their val set chooses. None if there are no others."""
    base = _spec_of(inputs.base)
    others = tuple(person for person in base.participants if person != spec.target)
    return read_people(inputs.folder, others, _learned(base), context.say) if others else None


def _learned(base: BaseSpec) -> tuple[str, ...]:
    """The parts of its people that a base model trains on."""
    return SPLITS if base.trains_on_all else ("train", "val")


def _starting_model(spec: FinetuneSpec, start: Start | None, train: Windows) -> tuple[Standardised, int]:
    if start is None:
        return _new_model(spec, _architecture(spec, None), train)
    return _model_of(start, _architecture(spec, start), train, f"windows of {spec.target}")


def _new_model(spec: BaseSpec | FinetuneSpec, architecture: Model, train: Windows) -> tuple[Standardised, int]:
    """A network with fresh weights, tried out on the windows, and how many classes it knows."""
    n_classes = n_classes_of(train, spec)
    seed_step(spec.seed, 0)
    model = build_model(architecture, train.x.shape[1], n_outputs_of(train, n_classes))
    try_out(model, train.x.between(0, 2), n_outputs_of(train, n_classes))
    return model, n_classes


def _model_of(start: Start, architecture: Model, train: Windows, whose: str) -> tuple[Standardised, int]:
    """A base model and how many classes it knows. Raise `Refusal` if `train` is not of the kind that it learned on."""
    base = start.content
    model = rebuilt(base, lambda: _built(base, architecture), f"base model {start.hash}")
    require_kind(base, start.hash, train, whose)
    return model, base["n_classes"]


def _built(content: dict[str, Any], architecture: Model) -> Standardised:
    return build_model(architecture, content["in_channels"], content["n_outputs"])


def _architecture(spec: FinetuneSpec, start: Start | None) -> Model:
    """The architecture of the base model; from scratch, that of the spec."""
    architecture = _spec_of(start).model if start else spec.model
    assert architecture is not None
    return architecture


def _spec_of(start: Start) -> BaseSpec:
    assert isinstance(start.spec, BaseSpec)
    return start.spec


def _measured(spec: BaseSpec | FinetuneSpec, name: str, trainee: WindowTrainee, fitted: Fitted) -> dict[str, Any]:
    """Metrics of the kept weights on the data that chose their epoch, measured anew if unknown; empty if it trained."""
    return {} if spec.trains_on_all else {name: fitted.measured or trainee.evaluate()}


def _outcome(trainee: WindowTrainee, fitted: Fitted, metrics: dict[str, Any]) -> Outcome:
    content = {"model": plainly_named(fitted.state), **trainee.rebuilds}
    return Outcome(content, metrics | {"parameters": count_parameters(trainee.model)}, fitted)
