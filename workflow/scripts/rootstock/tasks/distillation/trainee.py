"""The two phases as the engine's loop trains them: pairs as samples, the teacher's vectors from disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...engine.attention import plain_is_quicker
from ...engine.batches import even_batches
from ...engine.loop import PRECISIONS
from ...engine.progress import Context
from ...study.problems import Refusal
from .losses import cosine_distance, info_nce, mse, nested
from .sampling import alike_together, pairs_of_epoch
from .specs import BaseSpec, FinetuneSpec
from .student import SentenceEncoder, Tokenizer, architecture_of
from .text import NONE, Text
from .vectors import Vectors

SpecT = TypeVar("SpecT", BaseSpec, FinetuneSpec)
TEXTS_PER_EVALUATION = 256
TEMPERATURE = 0.05  # of InfoNCE in phase 1
TOPICS = 1  # seeds an epoch's random numbers for topics, apart from those that draw its pairs


class Encoder:
    """A student and its tokenizer: maps texts, given by their numbers, to unit vectors."""

    def __init__(self, model: SentenceEncoder, tokenizer: Tokenizer, text: Text, context: Context, precision: str):
        self.model, self.tokenizer, self.text = model.to(context.device), tokenizer, text
        self.context, self.precision = context, precision
        if plain_is_quicker(context.device, PRECISIONS[precision], tokenizer.max_length):
            self.model.transformer.set_attn_implementation("eager")

    def __call__(self, model: nn.Module, queries: np.ndarray, passages: np.ndarray) -> tuple[Tensor, Tensor]:
        """Vectors of queries [Q, d] and passages [P, d] from a single call of `model`, so that DDP sees one forward."""
        texts = self.text.queries.take(queries) + self.text.passages.take(passages)
        tokens, lengths = self.tokenizer(texts)
        vectors = model(tokens.to(self.context.device), lengths.to(self.context.device))
        return vectors[: len(queries)], vectors[len(queries) :]

    @torch.inference_mode()
    def all_of(self, role: str, rows: np.ndarray) -> Tensor:
        """Vectors float32 [N, d] of many queries or passages. Each process computes its share and returns them all."""
        self.model.eval()
        lines = getattr(self.text, role)
        vectors = torch.zeros(len(rows), self.model.dimension, dtype=torch.float32)
        by_length = torch.from_numpy(np.argsort([len(lines[int(i)]) for i in rows], kind="stable"))
        for part in self.context.world.share(by_length).split(TEXTS_PER_EVALUATION):
            tokens, lengths = self.tokenizer(lines.take(rows[part.numpy()]))
            vectors[part] = self.model(tokens.to(self.context.device), lengths.to(self.context.device)).cpu()
        return self.context.world.sum(vectors)


class Phase(ABC, Generic[SpecT]):
    """What both phases have in common."""

    def __init__(
        self,
        encoder: Encoder,
        vectors: Vectors,
        spec: SpecT,
        most_per_dataset: int | None,
        most: int | None,
        dimensions: tuple[int, ...] | None,
    ):
        self.encoder, self.model, self.text = encoder, encoder.model, encoder.text
        self.vectors, self.spec = vectors, spec
        self.most_per_dataset, self.most = most_per_dataset, most
        self.own_dimensions, self.dimensions = dimensions, dimensions or (self.model.dimension,)
        self.rebuilds = {
            "architecture": architecture_of(self.model, encoder.tokenizer),
            "tokenizer": encoder.tokenizer.files(),
            "mrl_dimensions": list(dimensions or ()),
        }
        self.device, self.world = encoder.context.device, encoder.context.world
        self.train, self.val = self.text.pairs_of("train"), self.text.pairs_of("val")

    def batches(self, epoch: int) -> list[Tensor]:
        """Numbers of pairs, in batches as even as possible."""
        chosen = pairs_of_epoch(
            self.train, self.text.pair_dataset[self.train], self.most_per_dataset, self.most, self.spec.seed, epoch
        )
        return even_batches(torch.from_numpy(chosen), self.spec.batch_size)

    @abstractmethod
    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        """Summed loss over these pairs, see `engine.loop.Trainee`."""

    def train_mode(self) -> None:
        self.model.train()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The phase's own loss on the validation pairs, in batches of the training's size, shared among the ranks."""
        self.model.eval()
        total = torch.zeros(1, dtype=torch.float64)
        pairs = torch.from_numpy(self.val)
        precision = PRECISIONS[self.spec.precision]
        with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
            for batch in even_batches(pairs, self.spec.batch_size)[self.world.rank :: self.world.size]:
                total += self.loss(self.model, batch, 0).item()
        return {"loss": self.world.sum(total).item() / len(pairs)}

    def targets(self, queries: np.ndarray, passages: np.ndarray) -> tuple[Tensor, Tensor]:
        """The teacher's vectors, float32."""
        return self._read(self.vectors.queries, queries), self._read(self.vectors.passages, passages)

    def _read(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array[rows], dtype=np.float32)).to(self.device)

    def among_teachers(self, query: Tensor, numbers: np.ndarray, temperature: float) -> Tensor:
        """Summed InfoNCE of these pairs' query vectors [N, d] with the teacher's vectors of their passages, against
        those of the passages mined for each query: hard negatives that the student need not encode."""
        queries, passages = self.text.pairs[numbers].T
        mined = np.asarray(self.vectors.mined[queries])  # (n, k)
        real = torch.from_numpy(mined != NONE).to(self.device)
        own = self._read(self.vectors.passages, passages)
        others = self._read(self.vectors.passages, np.maximum(mined, 0).ravel()).view(*mined.shape, -1)
        parts = (info_nce(q, p, o, real, temperature).sum() for q, p, o in self.nested(query, own, others))
        return torch.stack(list(parts)).sum()

    def nested(self, *vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The same vectors, cut to each number of dimensions that is learned."""
        return zip(*(nested(v, self.dimensions) for v in vectors), strict=True)


class General(Phase[BaseSpec]):
    """Phase 1: the student's vectors of queries and passages learn the teacher's."""

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        queries, passages = self.text.pairs[samples.numpy()].T
        own = self.encoder(model, queries, passages)
        target = self.targets(queries, passages)
        total = own[0].new_zeros(())
        for role in (0, 1):
            for student, teacher in self.nested(own[role], target[role]):
                distance = self.spec.mse_weight * mse(student, teacher)
                distance = distance + self.spec.cosine_weight * cosine_distance(student, teacher)
                total = total + distance.sum()
        if self.spec.retrieval_weight:
            found = self.among_teachers(own[0], samples.numpy(), TEMPERATURE)
            total = total + 2 * self.spec.retrieval_weight * found
        return total / (2 * len(self.dimensions))  # the mean over roles and nested dimensions


class Retrieval(Phase[FinetuneSpec]):
    """Phase 2: a query finds its passage among hard and in-batch negatives."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.true = self.text.positives()
        self.is_train = np.asarray(self.text.passage_split) == 0
        self._check()

    def batches(self, epoch: int) -> list[Tensor]:
        """With `topic_batches`, each batch has pairs with passages alike to the teacher, which are hard negatives."""
        batches = super().batches(epoch)
        if not self.spec.topic_batches:
            return batches
        pairs, sizes = torch.cat(batches).numpy(), [len(batch) for batch in batches]
        points = np.asarray(self.vectors.passages[self.text.pairs[pairs, 1]], dtype=np.float32)
        rng = np.random.default_rng([self.spec.seed, epoch, TOPICS])
        return [torch.from_numpy(batch) for batch in alike_together(pairs, points, sizes, rng)]

    def loss(self, model: nn.Module, samples: Tensor, epoch: int) -> Tensor:
        numbers = samples.numpy()
        queries, passages = self.text.pairs[numbers].T
        negatives, given = self.negatives(numbers)  # both (n, k)
        query, passage = self.encoder(model, queries, np.concatenate([passages, negatives.ravel()]))
        positive, hard = passage[: len(numbers)], passage[len(numbers) :]
        total = query.new_zeros(())
        if self.spec.infonce_weight:
            others, allowed = self._others(queries, passages, positive, negatives, given, hard)
            for q, p, o in self.nested(query, positive, others):
                total = total + self.spec.infonce_weight * info_nce(q, p, o, allowed, self.spec.temperature).sum()
            if self.spec.teacher_negatives:
                total = total + self.spec.infonce_weight * self.among_teachers(query, numbers, self.spec.temperature)
        if self.spec.mse_weight:
            for own, target in zip((query, positive), self.targets(queries, passages), strict=True):
                for student, teacher in self.nested(own, target):
                    total = total + self.spec.mse_weight * mse(student, teacher).sum() / 2
        return total / len(self.dimensions)

    def negatives(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hard negatives of each pair, int [N, K], and which of them are real, bool [N, K]; the user's come first.

        True passages of the query and passages outside the train split are never among the real ones.
        """
        k = self.spec.num_negatives
        found = np.zeros((len(pairs), k), dtype=np.int64)
        real = np.zeros((len(pairs), k), dtype=bool)
        for row, pair in enumerate(pairs if k else ()):
            query = int(self.text.pairs[pair, 0])
            candidates = np.concatenate([self.text.negatives[pair], self.vectors.mined[query]])
            candidates = candidates[candidates != NONE]
            candidates = candidates[self.is_train[candidates] & ~np.isin(candidates, self.true.of(query))]
            candidates = candidates[np.sort(np.unique(candidates, return_index=True)[1])][:k]
            found[row, : len(candidates)], real[row, : len(candidates)] = candidates, True
        return found, real

    def _others(
        self,
        queries: np.ndarray,
        passages: np.ndarray,
        positive: Tensor,
        negatives: np.ndarray,
        real: np.ndarray,
        hard: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The vectors that each query is compared with besides its own passage, and which of them are allowed.

        Without in-batch negatives, these are its own hard ones; with them, all passages of the global batch except its
        true ones.
        """
        if not self.spec.in_batch_negatives:
            return hard.view(*negatives.shape, -1), torch.from_numpy(real).to(self.device)
        ids = np.concatenate([passages, np.where(real, negatives, NONE).ravel()])
        vectors = torch.cat([positive, hard])
        ids, vectors = self._gathered(torch.from_numpy(ids), vectors)
        allowed = ~self.true.mask(queries, ids.numpy()) & (ids.numpy() != NONE)
        return vectors, torch.from_numpy(allowed).to(self.device)

    def _gathered(self, ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers and vectors of all ranks while training; gradients flow back to the rank that a vector came from."""
        if self.world.size == 1 or not torch.is_grad_enabled():
            return ids, vectors
        return torch.cat(_gather(ids, self.world.size)), GatherWithGradient.apply(
            vectors, self.world.rank, self.world.size
        )

    def _check(self) -> None:
        in_batch, micro = self.spec.in_batch_negatives, self.encoder.context.run.micro_batch_size
        mine = -(-self.spec.batch_size // self.world.size)
        if in_batch and micro is not None and micro < mine:
            raise Refusal(
                f"run.micro_batch_size: {micro} cuts a process's {mine} pairs, but in_batch_negatives needs them at once; "
                "remove it, or set finetune.in_batch_negatives: false"
            )
        if in_batch and min(map(len, self.batches(1))) < self.world.size:
            raise Refusal(f"finetune.batch_size: {self.spec.batch_size} leaves a process without pairs; make it larger")
        corpus = int(self.is_train.sum())
        if self.spec.num_negatives >= corpus:
            raise Refusal(
                f"finetune.num_negatives: {self.spec.num_negatives} is more than the train text has beside a query's own "
                f"passage ({corpus} passages); make it smaller"
            )


class GatherWithGradient(torch.autograd.Function):
    """Rows of all ranks [sum of N, d] from each rank's [N, d]; backward sums each row's gradient over the ranks."""

    @staticmethod
    def forward(ctx, rows: Tensor, rank: int, size: int) -> Tensor:
        parts = _gather(rows.contiguous(), size)
        ctx.start = sum(len(part) for part in parts[:rank])
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        gradient = grad_outputs[0].contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.count], None, None


def _gather(rows: Tensor, size: int) -> list[Tensor]:
    """Each rank's rows, which may differ in number."""
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(size)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    most = max(int(count) for count in counts)
    padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded)
    return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
