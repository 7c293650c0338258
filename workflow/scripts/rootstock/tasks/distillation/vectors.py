"""A teacher's vectors of a prepared text, as trainings read them: from disk, without the teacher."""

from pathlib import Path

import numpy as np

from ...study.problems import Refusal


class Vectors:
    """What `teacher.prepare_vectors` made: float16 unit vectors of queries and passages, on disk, and mined negatives.

    queries [Q, d], passages [P, d]; mined: int32 [Q, MOST_NEGATIVES] passages of the train split for queries of train
    and val, nearest first, padded with -1.
    """

    def __init__(self, folder: Path):
        try:
            self.queries, self.passages = read_vectors(folder)
            self.mined = np.load(folder / "mined.npy", mmap_mode="r")
        except (OSError, ValueError) as error:
            raise Refusal(f"{folder}: no prepared vectors ({error}); delete the folder and run again") from None

    @property
    def dimension(self) -> int:
        return self.queries.shape[1]


def read_vectors(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of queries and of passages, memory-mapped."""
    return np.load(folder / "queries.npy", mmap_mode="r"), np.load(folder / "passages.npy", mmap_mode="r")
