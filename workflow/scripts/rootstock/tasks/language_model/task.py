"""Language models as the engine sees them: build a trainee from a spec, train it, measure it."""

from typing import Any

import torch
from torch import Tensor, nn

from ...engine.loop import Context, Fitted, Outcome, fit
from ...engine.optimizers import adamw, muon
from ...engine.schedule import make_schedule
from ...engine.seeding import seed_step
from ...study.problems import Refusal
from .measure import Measure, inputs_and_targets, together
from .model import LanguageModel
from .settings import GENERAL, BaseSpec, FinetuneSpec, Model, ResumedFrom
from .shards import Prepared, TokenStream, open_prepared

BETAS = (0.9, 0.95)  # a shorter memory of squared gradients than AdamW's default: usual where batches are noisy
NOT_RESUMED = ResumedFrom(hash="", step=0, samples=0, epoch=1, batch=0)


def train_base(spec: BaseSpec, folder: str, expect: dict[str, Any], context: Context) -> Outcome:
    """Pretrain on the train part of all domains; their val part chooses the evaluation whose weights are kept."""
    text = open_prepared(folder)
    seed_step(spec.seed, 0)
    model = LanguageModel(text.vocab_size, spec.model)
    train, check = text.stream(text.domains, "train"), text.stream(text.domains, "val")
    trainee = TextTrainee(model, train, check, spec, context)
    context.say(f"trunk: {sum(p.numel() for p in model.parameters())} parameters, {len(train)} tokens to train")
    fitted = _fit(trainee, spec, context)
    metrics = {"base": _measure_all(trainee.measure, text), "n_train": len(train)}
    return _outcome(model, fitted, metrics, text, trainee.trained(fitted))


def train_finetune(
    spec: FinetuneSpec,
    folder: str,
    expect: dict[str, Any],
    base: dict[str, Any],
    base_spec: BaseSpec,
    context: Context,
) -> Outcome:
    """Go on from the trunk, on one domain or on all text; measure before and after on the test part of every domain."""
    text = open_prepared(folder)
    model = load_model(base, spec.model, f"base model {base['hash']}").to(context.device)
    if model.vocab_size != text.vocab_size:
        raise Refusal(
            f"base model {base['hash']}: has a vocabulary of {model.vocab_size}, {folder} of {text.vocab_size}; "
            "use the text it learned from"
        )
    before = _measure_all(Measure(model, spec.model.context_length, base_spec.precision, context), text)
    if spec.mode == "base_only":
        fitted = Fitted({k: v.cpu() for k, v in model.state_dict().items()}, [], 0, 0, 0.0)
        return _outcome(model, fitted, {"base": before, "test": before, "n_train": 0}, text, base["trained"])
    domains = text.domains if spec.domain is None else [spec.domain]
    train = text.stream(domains, "train", spec.target_data_pct or 1.0, spec.seed)
    if spec.mode == "last_layers_only":
        model.requires_grad_(False)
        for part in (*model.blocks[-spec.trained_layers :], model.norm):
            part.requires_grad_(True)
    context.say(f"{spec.mode} on {spec.domain or GENERAL}: {len(train)} tokens to train")
    trainee = TextTrainee(model, train, text.stream(domains, "val"), spec, context)
    fitted = _fit(trainee, spec, context)
    metrics = {"base": before, "test": _measure_all(trainee.measure, text), "n_train": len(train)}
    return _outcome(model, fitted, metrics, text, trainee.trained(fitted))


class TextTrainee:
    """Text and a transformer, in the shape that the engine's loop trains. An epoch is what lies between two evaluations."""

    def __init__(
        self,
        model: LanguageModel,
        train: TokenStream,
        check: TokenStream,
        spec: BaseSpec | FinetuneSpec,
        context: Context,
    ):
        self.model, self.train, self.check, self.spec = model.to(context.device), train, check, spec
        self.context_length, self.device = spec.model.context_length, context.device
        self.begun = spec.resumed_from or NOT_RESUMED
        self.measure = Measure(self.model, self.context_length, spec.precision, context)
        self.passes: dict[int, Tensor] = {}

    @property
    def epochs(self) -> int:
        """Stretches of `eval_every` steps until `max_steps`; the last one may be shorter."""
        first = self.begun.step - self.begun.batch
        return self.begun.epoch - 1 + -(-(self.spec.max_steps - first) // self.spec.eval_every)

    def batches(self, epoch: int) -> list[Tensor]:
        """Window starts of each step of a stretch. Which windows a step sees does not depend on where stretches end."""
        first = self.begun.step - self.begun.batch + (epoch - self.begun.epoch) * self.spec.eval_every
        steps = range(first, min(first + self.spec.eval_every, self.spec.max_steps))
        seen = (self.begun.samples + (step - self.begun.step) * self.spec.batch_size for step in steps)
        return [self._windows(number) for number in seen]

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        x, y = inputs_and_targets(self.train, samples, self.context_length, self.device)
        return model(x, y).sum()

    def evaluate(self) -> dict[str, Any]:
        return self.measure(self.check, self.spec.eval_tokens)

    def train_mode(self) -> None:
        self.model.train()

    def trained(self, fitted: Fitted) -> dict[str, Any]:
        """Of the weights that are kept: their step, passes over the text until then, loss on the val part."""
        first = self.begun.step - self.begun.batch
        step = min(first + (fitted.best_epoch - self.begun.epoch + 1) * self.spec.eval_every, self.spec.max_steps)
        samples = self.begun.samples + (step - self.begun.step) * self.spec.batch_size
        loss = fitted.history[fitted.best_epoch - 1]["val_loss"]
        return {"step": step, "epoch": samples * self.context_length / len(self.train), "loss": loss}

    def _windows(self, first: int) -> Tensor:
        """Starts of `batch_size` windows, the `first` and those that follow it in the endless sequence of passes."""
        per_pass = max(1, len(self.train) // self.context_length)
        starts, number = [], first
        while number < first + self.spec.batch_size:
            done, offset = divmod(number, per_pass)
            take = min(per_pass - offset, first + self.spec.batch_size - number)
            starts.append(self._pass(done, per_pass)[offset : offset + take])
            number += take
        return torch.cat(starts)

    def _pass(self, number: int, per_pass: int) -> Tensor:
        """All windows of one pass over the text in a new order, cut at other places than in the pass before."""
        if number not in self.passes:
            generator = torch.Generator().manual_seed((self.spec.seed * 1_000_003 + number) & 0x7FFF_FFFF_FFFF_FFFF)
            shift = torch.randint(self.context_length, (1,), generator=generator)
            order = torch.randperm(per_pass, generator=generator)
            self.passes = {number: shift + order * self.context_length}
        return self.passes[number]


def load_model(content: dict[str, Any], shape: Model, where: str) -> LanguageModel:
    """The transformer of a `model.pt`; `Refusal` where its weights are not of the shape that its spec says."""
    try:
        model = LanguageModel(content["model"]["embedding.weight"].shape[0], shape)
        model.load_state_dict(content["model"])
    except (KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise Refusal(f"{where}: of another shape than its spec says: {str(error).splitlines()[0]}") from None
    return model


def _fit(trainee: TextTrainee, spec: BaseSpec | FinetuneSpec, context: Context) -> Fitted:
    settings = {"compiled": context.compile, "betas": BETAS, "decay_vectors": False}
    make_optimizer = {"adamw": adamw, "muon": muon}[spec.optimizer]
    optimizer = make_optimizer(trainee.model, spec.lr, spec.weight_decay, **settings)
    fitted = fit(
        trainee,
        context,
        optimizer=optimizer,
        schedule=make_schedule(
            spec.schedule, optimizer, spec.lr, spec.max_steps, max(spec.warmup_steps, 1), spec.decay_pct
        ),
        max_epochs=trainee.epochs,
        gradient_clip=spec.gradient_clip,
        metric="loss",
        patience=spec.early_stopping_patience,
        seed=spec.seed,
        precision=spec.precision,
        keeps_state=isinstance(spec, BaseSpec),
    )
    trainee.model.load_state_dict(fitted.state)
    return fitted


def _measure_all(measure: Measure, text: Prepared) -> dict[str, Any]:
    """Loss and perplexity on the test part of each domain, and of all text: the mean over all of their tokens."""
    found = {domain: measure(text.stream([domain], "test")) for domain in text.domains}
    return found | {GENERAL: together(list(found.values()))}


def _outcome(
    model: LanguageModel, fitted: Fitted, metrics: dict[str, Any], text: Prepared, trained: dict[str, Any]
) -> Outcome:
    metrics["parameters"] = sum(p.numel() for p in model.parameters())
    return Outcome({"model": fitted.state, "tokenizer": text.tokenizer, "trained": trained}, metrics, fitted)
