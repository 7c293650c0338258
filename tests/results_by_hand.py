"""Summaries with results as a test wants them: what a study's page is made of, without a training."""

from collections.abc import Iterable

import pandas as pd

from rootstock.results.question import Measure, Question

ACCURACY = Measure("after", "before", "accuracy on the test set", "%", 100, best=100, change_unit="points")
LOSS = Measure("after", "before", "loss", "nats a token", higher_is_better=False, digits=3, change_unit="nats")


def question(measure: Measure = ACCURACY, **changes) -> Question:
    """What a small study of people asks: of modes and shares of data, over seeds."""
    asked = {
        "measure": measure,
        "unit": "person",
        "words": ("person", "people"),
        "settings": ("mode", "share"),
        "seeds": ("seed",),
        "amount": "share",
        "amount_words": "of a person's data",
        "scratch": ("scratch",),
    }
    return Question(**(asked | changes))


def rows(gains: Iterable[float], mode="tuned", share=0.1, seed=0, before=0.9, scale=100, **more) -> pd.DataFrame:
    """A row a person, with gains as they are shown; `before` None: from scratch, and gains are results."""
    gains = pd.Series(list(gains), dtype=float)
    people = [f"p{position}" for position in range(len(gains))]
    after = gains / scale + (before or 0)
    frame = pd.DataFrame({"person": people, "before": before, "after": after})
    return frame.assign(mode=mode, share=share, seed=seed, **more).astype({"before": float})


def study(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)
