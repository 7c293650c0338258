"""Effect, interval and chance of paired gains, by scipy and statsmodels. Arrays in, arrays out; knows no table and no task.

Gains are arrays (comparisons, units) without NaN. Randomness starts from `SEED`, and each row is resampled alike, so the
same results give the same numbers whatever stands beside them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_UNITS = 6  # with five, the smallest two-sided p of a sign-flip test is 0.0625
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # a p below it, after Holm, is called no chance
RESAMPLES = 9999  # of the bootstrap, and of sign flips where there are more than that
SEED = 0
TIE = 1e-9  # a difference no larger is none: sums in another order differ in the last bits
CELLS = 10_000_000  # values that are held at once

Floats = NDArray[np.float64]


def intervals(gains: Floats) -> tuple[Floats, Floats]:
    """Low and high ends of the bootstrap interval of each row's mean, over units. BCa (Efron 1987); the percentile interval
    where BCa is not defined, as where all gains are equal. NaN for fewer than two units."""
    n_rows, n_units = gains.shape
    if n_units < 2:
        return np.full(n_rows, np.nan), np.full(n_rows, np.nan)
    low, high = _bootstrap(gains, "percentile")
    is_varied = np.ptp(gains, axis=1) > TIE
    if is_varied.any():
        for ends, found in zip((low, high), _bootstrap(gains[is_varied], "BCa"), strict=True):
            ends[is_varied] = np.where(np.isnan(found), ends[is_varied], found)
    return low, high


def sign_flip_p(gains: Floats) -> Floats:
    """Two-sided p of each row: were gains and losses equally likely, how often would the mean be as far from zero? All
    2ⁿ sign flips where they are no more than `RESAMPLES` (`is_exact`), else as many drawn at random. NaN for fewer than two
    units, where there is nothing to test."""
    from scipy.stats import permutation_test

    n_rows, n_units = gains.shape
    if n_units < 2:
        return np.full(n_rows, np.nan)
    found = permutation_test(
        (gains,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_batch(2 * gains.size),
        axis=-1,
        rng=np.random.default_rng(SEED),
    )
    return np.asarray(found.pvalue)


def is_exact(n_units: int) -> bool:
    """Whether `sign_flip_p` tries every flip."""
    return 2**n_units <= RESAMPLES


def smallest_p(n_units: int) -> float:
    """The smallest p that a two-sided sign-flip test of so many units can give."""
    return min(1.0, 2 / 2**n_units) if is_exact(n_units) else 2 / (RESAMPLES + 1)


def holm(p: Sequence[float]) -> Floats:
    """Each p corrected for all of them (Holm 1979); NaN stays NaN and is no comparison."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.array(p, dtype=float)
    is_tested = ~np.isnan(corrected)
    if is_tested.any():
        corrected[is_tested] = multipletests(corrected[is_tested], method="holm")[1]
    return corrected


def probability_of_improvement(better: Sequence[Floats], worse: Sequence[Floats]) -> float:
    """How likely a run of one setting beats a run of the other on the same unit, ties for half: the mean over units of the
    share of pairs of runs (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

    Each sequence holds an array of runs a unit, larger is better; a difference up to `TIE` is none. NaN without units.
    """
    differences = (a[:, None] - b[None, :] for a, b in zip(better, worse, strict=True))
    shares = [np.mean(0.5 + 0.5 * np.sign(each) * (np.abs(each) > TIE)) for each in differences]
    return float(np.mean(shares)) if shares else float("nan")


def _bootstrap(gains: Floats, method: str) -> tuple[Floats, Floats]:
    from scipy.stats import bootstrap

    found = bootstrap(
        (gains,),
        np.mean,
        axis=-1,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method=method,
        batch=_batch(gains.size),
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return np.array(found.low), np.array(found.high)


def _batch(cells: int) -> int:
    """How many resamples of so many values are held at once; the results do not depend on it."""
    return max(1, min(RESAMPLES, CELLS // max(cells, 1)))
