"""Sentences for the methods section of a paper about a distillation; every number comes from the specs."""

from typing import Any

from ...results.wording import counted, listed, numbered, percentages, shown, values_of
from ...study.plan import Plan
from .specs import BaseSpec, FinetuneSpec, TeacherIdentity, TextIdentity

AMONG_TEACHERS = "InfoNCE of each query with the teacher's embeddings of its passage and of up to 64 hard negatives"


def methods(plan: Plan) -> list[str]:
    bases = [training.spec for training in plan.bases.values() if isinstance(training.spec, BaseSpec)]
    second = [one.spec for one in plan.fine_tunes if isinstance(one.spec, FinetuneSpec)]
    if not bases:
        return []
    return [*_of_text(bases), *_of_students(bases), *_of_phase_1(bases), *_of_phase_2(second), _of_scores()]


def _of_text(bases: list[BaseSpec]) -> list[str]:
    teachers = listed(_teacher(teacher) for teacher in _each(base.data.teacher for base in bases))
    told = [f"Students learned the sentence embeddings of {teachers}."]
    for text in _each(base.data.text for base in bases):
        limit = f", at most {counted(text.max_queries, 'query', 'queries')} a passage" if text.max_queries else ""
        told.append(
            f"The text was {_source(text)}{limit}. Passages were split into {percentages(text.split)} for training, validation "
            f"and test (seed {text.seed}); near-duplicates and passages that share a query stayed in one part."
        )
    return told


def _teacher(teacher: TeacherIdentity) -> str:
    return f"{_model(teacher.model)} (texts cut at {teacher.max_length} tokens, {teacher.precision})"


def _source(text: TextIdentity) -> str:
    if text.ontologies:
        return f"names and definitions of the terms of {listed(text.ontologies, 'and')} ({text.version})"
    return "pairs of queries and passages of our own"


def _of_students(bases: list[BaseSpec]) -> list[str]:
    """One sentence per student."""
    told = []
    for base in _each(b.model_copy(update={"seed": 0}) for b in bases):
        student = base.student
        layers = f", layers {shown(student.layers)} of it" if student.layers else ", all of its layers"
        head = "; its own first dimensions learned the teacher's"
        if student.projection_hidden_dim:
            head = f"; a projection with {student.projection_hidden_dim} hidden units led to the teacher's dimensions"
        nested = (
            f", the first {shown(student.mrl_dimensions)} of them each for itself" if student.mrl_dimensions else ""
        )
        told.append(f"A student was {_model(student.model)}{layers}{head}{nested}.")
    return list(dict.fromkeys(told))


def _of_phase_1(bases: list[BaseSpec]) -> list[str]:
    frozen = " with frozen word embeddings" if all(base.freeze_word_embeddings for base in bases) else ""
    finds = f" plus {values_of(bases, 'retrieval_weight')} × {AMONG_TEACHERS} (temperature 0.05)"
    return [
        f"Phase 1 minimised {values_of(bases, 'mse_weight')} × the mean squared error plus {values_of(bases, 'cosine_weight')} × "
        f"(1 - cosine) between student and teacher{finds if any(one.retrieval_weight for one in bases) else ''}{frozen}, "
        f"{_course(bases)}."
    ]


def _of_phase_2(second: list[FinetuneSpec]) -> list[str]:
    if not second:
        return []
    has_batch = any(one.in_batch_negatives for one in second)
    contrast = (
        f"{values_of(second, 'infonce_weight')} × InfoNCE (temperature {values_of(second, 'temperature')}, "
        f"{values_of(second, 'num_negatives')} hard negatives{', other passages of the batch as negatives' if has_batch else ''}"
        f"{', batches of pairs with passages alike to the teacher' if any(one.topic_batches for one in second) else ''})"
    )
    if any(one.teacher_negatives for one in second):
        contrast += f" plus {AMONG_TEACHERS}"
    near = f" plus {values_of(second, 'mse_weight')} × the mean squared error to the teacher"
    has_near = any(one.mse_weight for one in second)
    told = [f"Phase 2 started from phase 1 and minimised {contrast}{near if has_near else ''}, {_course(second)}."]
    if updates := [one for one in second if one.is_update]:
        told.append(
            f"In mode lora it trained low-rank updates of all linear layers (rank {values_of(updates, 'rank')}, alpha "
            f"{values_of(updates, 'alpha')}) and nothing else."
        )
    return told


def _course(specs: list[Any]) -> str:
    """How a phase was trained."""
    rate = (
        f"peak learning rate {values_of(specs, 'lr')}, {numbered(specs, 'warmup_steps', 'step', 'steps')} of linear warm-up, then "
        f"linear decay to 0; weight decay {values_of(specs, 'weight_decay')}; gradient norm at most {values_of(specs, 'gradient_clip')}"
    )
    return (
        f"with AdamW ({rate}) for {numbered(specs, 'max_epochs', 'epoch', 'epochs')} in batches of {values_of(specs, 'batch_size')} "
        f"pairs, texts cut at {values_of(specs, 'max_length')} tokens, in {values_of(specs, 'precision')}, seed "
        f"{values_of(specs, 'seed', 'and')}"
    )


def _of_scores() -> str:
    return (
        "Each held-out query ranked all held-out passages by cosine similarity; we report recall at 1 and 10, mean "
        "reciprocal rank and nDCG at 10, with tied passages at the worst of their ranks. The epoch with the lowest "
        "validation loss was kept."
    )


def _model(identity: Any) -> str:
    return f"{identity.known_as} ({identity.version})" if identity.version else identity.known_as


def _each(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
