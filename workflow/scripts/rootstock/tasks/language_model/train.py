"""Language models as a job sees them: a transformer, trained on tokens and measured on every domain."""

from typing import Any

from ...engine.checkpoint import to_cpu
from ...engine.loop import Outcome, fit, untrained
from ...engine.low_rank import add_low_rank, update_of
from ...engine.models import count_parameters, rebuilt, weights_digest
from ...engine.progress import Context, Fitted
from ...engine.seeding import seed_step
from ...study.parts import Inputs
from ...study.problems import Refusal
from .measure import Measure, together
from .model import LanguageModel
from .settings import GENERAL, TARGETS, Model
from .shards import Prepared, open_prepared
from .specs import BaseSpec, FinetuneSpec
from .tokenizer import boundary
from .trainee import TextTrainee
from .weights import pretrained_model


def train_base(spec: BaseSpec, inputs: Inputs, context: Context) -> Outcome:
    """Pretrain on the train split of all domains, from new weights or from those of an existing model. The val split
    chooses the evaluation whose weights are kept."""
    text = open_prepared(inputs.folder)
    model = _trunk_to_begin_with(spec, text)
    if not spec.max_steps:
        return _as_it_is(model, spec, text, context)
    train, check = text.stream(text.domains, "train"), text.stream(text.domains, "val")
    trainee = TextTrainee(model, text.tokenizer, train, check, spec, context)
    context.say(f"trunk: {count_parameters(model)} parameters, {len(train)} tokens to train")
    fitted = fit(trainee, spec, context)
    return _outcome(trainee, fitted, {"base": _measure_all(trainee.measure, text), "n_train": len(train)})


def train_finetune(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """Continue the trunk, on one domain or on all text; measure before and after on the test set of every domain."""
    text = open_prepared(inputs.folder)
    model, before = _measured_trunk(inputs, text, context)
    domains = text.domains if spec.domain is None else [spec.domain]
    train = text.stream(domains, "train", spec.target_data_pct or 1.0, spec.seed)
    _free_what_is_trained(model, spec)
    context.say(f"{spec.mode} on {spec.domain or GENERAL}: {len(train)} tokens to train")
    trainee = TextTrainee(model, text.tokenizer, train, text.stream(domains, "val"), spec, context)
    fitted = fit(trainee, spec, context)
    metrics = {"base": before, "test": _measure_all(trainee.measure, text), "n_train": len(train)}
    outcome = _outcome(trainee, fitted, metrics)
    if spec.is_update:
        base_weights = weights_digest(inputs.base.content["model"])
        outcome.model |= {"model": update_of(fitted.state), "base_weights": base_weights}
    return outcome


def measure_base(spec: FinetuneSpec, inputs: Inputs, context: Context) -> Outcome:
    """The trunk on the test set of every domain."""
    model, before = _measured_trunk(inputs, open_prepared(inputs.folder), context)
    metrics = {"base": before, "test": before, "n_train": 0, "parameters": count_parameters(model)}
    return untrained(inputs.base.content, metrics)


def load_model(content: dict[str, Any], where: str) -> LanguageModel:
    """The transformer of a model file or checkpoint. It takes token numbers; `generate` converts from and to text."""

    def build() -> LanguageModel:
        return LanguageModel(
            content["model"]["embedding.weight"].shape[0], Model.model_validate(content["spec"]["model"])
        )

    return rebuilt(content, build, where)


def _trunk_to_begin_with(spec: BaseSpec, text: Prepared) -> LanguageModel:
    if spec.start_from is not None:
        return pretrained_model(spec.start_from, spec.model, text.vocab_size)
    seed_step(spec.seed, 0)
    return LanguageModel(text.vocab_size, spec.model)


def _as_it_is(model: LanguageModel, spec: BaseSpec, text: Prepared, context: Context) -> Outcome:
    """A pretrained model as a trunk that takes no step but is measured like one that does."""
    measure = _measure(model.to(context.device), spec, text, context)
    loss = measure(text.stream(text.domains, "val"), spec.eval_tokens)["loss"]
    trained = {"step": 0, "epoch": 0.0, "loss": loss}
    content = {"model": to_cpu(model.state_dict()), "tokenizer": text.tokenizer, "trained": trained}
    metrics = {"base": _measure_all(measure, text), "n_train": 0, "parameters": count_parameters(model)}
    return untrained(content, metrics)


def _free_what_is_trained(model: LanguageModel, spec: FinetuneSpec) -> None:
    """Freeze the weights that the mode does not train. For lora, add the updates, which are equal for equal seeds."""
    if spec.trained_layers is not None:
        model.requires_grad_(False)
        for part in (*model.blocks[-spec.trained_layers :], model.norm):
            part.requires_grad_(True)
    if spec.rank is not None and spec.alpha is not None:
        seed_step(spec.seed, 0)
        add_low_rank(model, spec.rank, spec.alpha, [TARGETS[name] for name in spec.targets or ()])


def _measured_trunk(inputs: Inputs, text: Prepared, context: Context) -> tuple[LanguageModel, dict[str, Any]]:
    """The trunk of a branch, and how well it predicts every text."""
    start = inputs.base
    assert isinstance(start.spec, BaseSpec)
    model = load_model(start.content, f"base model {start.hash}").to(context.device)
    if model.vocab_size != text.vocab_size:
        raise Refusal(
            f"base model {start.hash}: has a vocabulary of {model.vocab_size}, {inputs.folder} of {text.vocab_size}; "
            "use the text it learned from"
        )
    return model, _measure_all(_measure(model, start.spec, text, context), text)


def _measure(model: LanguageModel, spec: BaseSpec, text: Prepared, context: Context) -> Measure:
    """The `Measure` of a trunk, the same as while it learns."""
    end = boundary(text.tokenizer, spec.mask_documents)
    return Measure(model, spec.model.context_length, spec.precision, context, end)


def _measure_all(measure: Measure, text: Prepared) -> dict[str, Any]:
    """Loss and perplexity on the test set of each domain and of all text; the latter is the mean over all tokens."""
    found = {domain: measure(text.stream([domain], "test")) for domain in text.domains}
    return found | {GENERAL: together(list(found.values()))}


def _outcome(trainee: TextTrainee, fitted: Fitted, metrics: dict[str, Any]) -> Outcome:
    content = {"model": fitted.state, **trainee.rebuilds, "trained": trainee.trained(fitted)}
    return Outcome(content, metrics | {"parameters": count_parameters(trainee.model)}, fitted)
