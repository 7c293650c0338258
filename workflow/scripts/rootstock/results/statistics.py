"""Effect, interval and chance of paired gains, by scipy and statsmodels. Arrays in, arrays out; knows no task.

Gains are arrays (comparisons, units) without NaN. Randomness starts from `SEED`, and all rows are resampled alike, so a
row gives the same numbers whatever the other rows are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_UNITS = 6  # with five, the smallest two-sided p of a sign-flip test is 0.0625
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # a p up to this, after Holm, is called unlikely to be chance
RESAMPLES = 9999  # of the bootstrap, and of sign flips if there are more
SEED = 0
TIE = 1e-9  # a difference up to this is none: sums in another order differ in the last bits
CELLS = 10_000_000  # values that are held in memory at once

Floats = NDArray[np.float64]


def intervals(gains: Floats) -> tuple[Floats, Floats]:
    """Low and high ends of the bootstrap interval of each row's mean over units: BCa (Efron 1987), or the percentile
    interval if BCa is not defined, as with equal gains. NaN for fewer than two units."""
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
    """Two-sided p of each row: if gains and losses were equally likely, how often would the mean be this far from zero?
    It takes all 2ⁿ sign flips if these are at most `RESAMPLES` (`is_exact`), else `RESAMPLES` random ones. NaN for
    fewer than two units, with which there is nothing to test."""
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
    """The smallest p that a two-sided sign-flip test of this number of units can give."""
    return min(1.0, 2 / 2**n_units) if is_exact(n_units) else 2 / (RESAMPLES + 1)


def holm(p: Sequence[float]) -> Floats:
    """Each p corrected for all of them (Holm 1979); NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    corrected = np.array(p, dtype=float)
    is_tested = ~np.isnan(corrected)
    if is_tested.any():
        corrected[is_tested] = multipletests(corrected[is_tested], method="holm")[1]
    return corrected


def probability_of_improvement(better: Sequence[Floats], worse: Sequence[Floats]) -> float:
    """How likely a run of one setting beats a run of the other on the same unit, a tie counting half: the share of
    pairs of runs, averaged over units (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").

    Each sequence holds one array of runs per unit, larger is better; a difference up to `TIE` is a tie. NaN without
    units.
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
    """How many resamples of `cells` values are held at once; the results do not depend on it."""
    return max(1, min(RESAMPLES, CELLS // max(cells, 1)))
