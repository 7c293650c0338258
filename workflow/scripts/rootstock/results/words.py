"""What each word on the page means, in a sentence or two. The numbers in them are those that the statistics use."""

from .statistics import ALPHA, LEVEL, MIN_UNITS, RESAMPLES

WORDS: dict[str, str] = {
    "base model": "What many fine-tunes start from. It is trained once, and measured on the same test data as they are.",
    "mode": "How a fine-tune trains: which layers, on which data. The keys of a study describe each.",
    "test set": "Data that neither trained a model nor chose its epoch; it is only reported.",
    "setting": "One combination of the values that a study varies, seeds apart.",
    "unit": (
        "Whom or what a fine-tune is about. Results of one unit are alike, so it is units that are counted, not experiments: "
        "every mean is over units, and several seeds of a unit are averaged first."
    ),
    "gain": (
        "The result after the fine-tune less the result of what it is compared with, on the same unit and the same test data; "
        "positive is better, also where less is better, as with a loss."
    ),
    "tie": "Two results that are equal, but for the rounding of sums: neither a gain nor a loss.",
    "share of the room left": (
        "The gain as a share of the most that there was to gain: from the result before to the best that can be had. It is "
        "not defined where nothing was left to gain."
    ),
    "interval": (
        f"A {100 * LEVEL:g} % bootstrap interval of the mean gain: units are drawn anew {RESAMPLES:,} times, with replacement, "
        "and it spans the middle of the means that come out, corrected for bias and skew (BCa, Efron 1987). It speaks of new "
        "units like these. With few units it is too narrow: in simulations of normal gains it holds the true mean in 85 of 100 "
        f"studies with 6 units, 90 with 10 and 93 with 30. Below {MIN_UNITS} units it is not shown."
    ),
    "p": (
        "How often a mean gain as far from zero, or farther, would come about if gains and losses were equally likely for each "
        "unit. It is not the probability that there is no gain, and it says nothing about how large one is."
    ),
    "sign-flip test": (
        "The test that p is from: the mean gain is compared with those that come out when the signs of the units' gains are "
        f"flipped in every way. Where there are more than {RESAMPLES:,} ways, as many are drawn at random. It takes the gains of "
        "different units for independent and, were there no effect, for symmetric about zero; it takes no form of distribution."
    ),
    "smallest p": (
        "With n units there are 2ⁿ flips, so no result gives a p below 2/2ⁿ: 0.0625 with five units, which is why fewer than "
        f"{MIN_UNITS} are not tested. A tie has no sign to flip, so ties make it larger. After Holm's correction it is that times "
        "the number of comparisons."
    ),
    "Holm's correction": (
        "Among many comparisons some look good by chance alone. Holm's method (1979) raises each p so that with no effect "
        f"anywhere even one p at or below {ALPHA:g} comes about in at most {100 * ALPHA:g} of 100 studies. It counts every "
        "comparison that the page shows with a p, and those alone. Intervals are not corrected."
    ),
    "unlikely to be chance": (
        f"p is at most {ALPHA:g} after Holm's correction, and the interval does not reach zero. “May be chance” is all else; it "
        "does not mean that there is no effect."
    ),
    "probability of improvement": (
        "How likely a run of this setting is better than a run of the other on the same unit, a tie counting half: the share "
        "of pairs of runs, averaged over units (Agarwal et al. 2021). One half is no difference. It says how often, not how much."
    ),
    "sd between seeds": (
        "How much the mean gain over units differs when only the seeds differ: chance of training, as opposed to differences "
        "between units, which the interval is about (Bouthillier et al. 2021). A gain much smaller than this needs more seeds."
    ),
    "from scratch": "Trained on the unit's own data alone, without a base model, on as much data as the fine-tune beside it.",
    "best of many": (
        "Of many settings the one with the largest gain owes a part of it to luck, so its gain would be smaller on new data. "
        "To report it, choose the setting on other data than it is measured on."
    ),
    "left out": (
        "Units that have one of the two results and not both: an experiment is missing, or its result is not a finite number. "
        "If those that fail are the hard ones, what is left looks too good."
    ),
}
