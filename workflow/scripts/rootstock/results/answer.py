"""The answer of a study in sentences, written from its comparisons. Knows no task: the words come from the question."""

from collections.abc import Sequence

from .comparisons import Comparison
from .labels import phrase_of
from .question import Measure, Question
from .statistics import ALPHA, LEVEL, MIN_UNITS, TIE

RULE = (
    f"The answer speaks of the smallest amount of data with which a gain is unlikely to be chance: p is at most {ALPHA:g} after "
    "Holm's correction, and the interval lies above zero. Of several such settings it takes the first in the study's order, not "
    "the one with the largest gain. Where there is none, it speaks of the setting with the largest mean gain, and says how many "
    "it was chosen from."
)
NOTHING = "No fine-tune of this study has a result to compare it with, so there is no answer."


def chosen(comparisons: Sequence[Comparison], question: Question) -> Comparison | None:
    """The comparison that the answer speaks of, see `RULE`: one against the base, if the study has any."""
    candidates = _main(comparisons)
    shown = [one for one in candidates if one.helps]
    if shown:
        return min(shown, key=lambda one: _amount(one, question))  # the first of the smallest
    return max(candidates, key=lambda one: one.mean, default=None)


def sentences(comparisons: Sequence[Comparison], question: Question, is_partial: bool = False) -> list[str]:
    """Two sentences: the effect of the chosen setting, and whether it may be chance. One if nothing is compared."""
    one = chosen(comparisons, question)
    if one is None:
        return [NOTHING]
    so_far = "Of the experiments that are done so far: " if is_partial else ""
    effect = _change(one, question) if one.kind == "base" else _difference(one, question)
    details = "; ".join(
        filter(None, (_counts(one, question), interval_text(one, question.measure), _left_out(one, question)))
    )
    return [f"{so_far}{effect}: {details}.", f"{_chance(one, _main(comparisons), question)}."]


def besides(comparisons: Sequence[Comparison], question: Question) -> list[str]:
    """A sentence for everything else that the chosen setting is compared with, such as training from scratch."""
    main = chosen(comparisons, question)
    others = [one for one in comparisons if main and one is not main and one.setting == main.setting]
    return [f"{_beside(one, question)}." for one in others]


def number(value: float, digits: int) -> str:
    """A number for a sentence, with a true minus sign; zero has no sign."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def p_text(one: Comparison) -> str:
    """The p of a comparison for a sentence, with the number of comparisons that it is corrected for."""
    p = "p < 0.001" if one.p_holm < 0.001 else f"p = {one.p_holm:.2g}"
    return p if one.n_tested == 1 else f"{p} after Holm's correction for {one.n_tested} comparisons"


def interval_text(one: Comparison, measure: Measure) -> str:
    """The interval of the gain; empty if there is none or if all gains are equal."""
    if not one.high - one.low > TIE:
        return ""
    low, high = (number(end, measure.digits) for end in (one.low, one.high))
    return f"{100 * LEVEL:g} % interval of the gain {low} to {high} {_change_unit(measure)}".rstrip()


def _main(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that the answer may speak of: those against the base, else those of the first kind."""
    kinds = [one.kind for one in comparisons]
    return [one for one in comparisons if one.kind == ("base" if "base" in kinds else kinds[0])]


def _amount(one: Comparison, question: Question) -> float:
    return one.setting.get(question.amount, 1.0) if question.amount else 1.0


def _change_unit(measure: Measure) -> str:
    return measure.change_unit or measure.unit


def _change(one: Comparison, question: Question) -> str:
    """How the result of the base model changes, with a verb no stronger than what is shown."""
    who, measure = phrase_of(one.setting, question), question.measure
    before, after = (number(value, measure.digits) for value in (one.before, one.after))
    if one.gained == one.lost == 0:
        return f"{who} leaves {measure.label} at {after} {measure.unit}".rstrip()
    values = f"from {before} to {after} {measure.unit}".rstrip()
    if one.helps or one.harms:
        return f"{who} {'raises' if one.after > one.before else 'lowers'} {measure.label} {values}"
    if one.can_tell:
        return f"{who} is not shown to change {measure.label}, {values}"
    return f"{who} brings {measure.label} {values}"


def _difference(one: Comparison, question: Question) -> str:
    """How far a setting is from something that it did not start from."""
    who, measure = phrase_of(one.setting, question), question.measure
    before, after = (f"{number(value, measure.digits)} {measure.unit}".rstrip() for value in (one.before, one.after))
    return f"{who} reaches {after}, {measure.label}, and is {_better(one, question)} than {one.against} ({before})"


def _better(one: Comparison, question: Question) -> str:
    size = f"{number(abs(one.mean), question.measure.digits)} {_change_unit(question.measure)}".rstrip()
    return f"{size} {'better' if one.mean >= 0 else 'worse'}"


def _beside(one: Comparison, question: Question) -> str:
    before = f"{number(one.before, question.measure.digits)} {question.measure.unit}".rstrip()
    start = f"Against {one.against} ({before}) the same setting is {_better(one, question)}"
    if not one.can_tell:
        return f"{start}; {_few(one, question)} {'is' if one.n == 1 else 'are'} too few to test that"
    verdict = "unlikely to be chance" if one.helps or one.harms else "which may be chance"
    return ", ".join(filter(None, (start, interval_text(one, question.measure), f"{verdict} ({p_text(one)})")))


def _counts(one: Comparison, question: Question) -> str:
    """How many gain and lose: "7 of 10 people gain, 1 loses, 2 stay the same"."""
    if one.n == 1:
        return f"{_better(one, question)} on one {question.words[0]}"
    if one.gained == one.lost == 0:
        return f"none of {one.n} {question.words[1]} gains or loses"
    counts = [f"{one.gained} of {one.n} {question.words[1]} {_verb('gain', one.gained)}"]
    counts += [f"{one.lost or 'none'} {_verb('lose', one.lost or 1)}"]
    counts += [f"{one.tied} {_verb('stay', one.tied)} the same"] if one.tied else []
    return ", ".join(counts)


def _verb(verb: str, count: int) -> str:
    return f"{verb}s" if count == 1 else verb


def _left_out(one: Comparison, question: Question) -> str:
    return f"left out for want of a result: {_number_of(one.left_out, question)}" if one.left_out else ""


def _number_of(count: int, question: Question) -> str:
    return f"{count} {question.words[0] if count == 1 else question.words[1]}"


def _few(one: Comparison, question: Question) -> str:
    return f"one {question.words[0]}" if one.n == 1 else f"{one.n} {question.words[1]}"


def _chance(one: Comparison, main: list[Comparison], question: Question) -> str:
    """Whether the effect may be chance, and how the setting was chosen."""
    if one.helps:
        return f"The gain is unlikely to be chance ({p_text(one)}){_why_this(main, question)}"
    best = f"the largest mean gain of {len(main)} settings" if len(main) > 1 else ""
    if not one.can_tell:
        needed = f"at least {MIN_UNITS} {question.words[1]} are needed"
        few = f"With {_few(one, question)} this test cannot reach p < {ALPHA:g}; {needed}"
        return few + (f". This is {best}" if best else "")
    if one.gained == one.lost == 0 and len(main) == 1:
        return "There is no gain and no loss to test"
    harmed = sum(other.harms for other in main)
    if one.harms:
        whole = f"; it is the best of {len(main)} settings, of which {harmed} show a loss" if best else ""
        return f"The loss is unlikely to be chance ({p_text(one)}){whole}"
    found = f"That is {best}, chosen on these very results, and may be chance" if best else "That may be chance"
    shown = f"no setting shows a gain, {harmed or 'none'} a loss" if best else ""
    return "; ".join(filter(None, (f"{found} ({p_text(one)})", shown, _too_few(one, question))))


def _why_this(main: list[Comparison], question: Question) -> str:
    """How many settings show a gain, and why the answer speaks of this one."""
    if len(main) == 1:
        return ""
    shown = [other for other in main if other.helps]
    amounts = {_amount(other, question) for other in main}
    why = "the smallest amount of data that does" if len(amounts) > 1 else "the first of them in the study's order"
    return (
        f"; {len(shown)} of {len(main)} settings show one, and this is {why}"
        if len(shown) > 1
        else (f"; of {len(main)} settings it is the only one that shows a gain")
    )


def _too_few(one: Comparison, question: Question) -> str:
    """A clause on the smallest possible p, if that is above `ALPHA`: too few units differ or too much is compared."""
    if one.smallest_p_holm <= ALPHA:
        return ""
    floor, differ = f"{one.smallest_p_holm:.2g}", one.gained + one.lost
    who = f"{_few(one, question)}" if differ == one.n else f"{differ} of {one.n} {question.words[1]} who differ"
    many = f" and {one.n_tested} comparisons" if one.n_tested > 1 else ""
    return f"with {who}{many} no p{' after Holm' if many else ''} can be below {floor}"
