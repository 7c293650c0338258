"""Which recording a window is from: what a file says about it, and how it splits a person's windows. Loads torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...engine.rows import Rows
from ...study.problems import Refusal

if TYPE_CHECKING:
    from .data import Windows


def fault_of_recording(recording: Tensor, y: Tensor) -> str | None:
    """Why the third tensor of a file cannot say which recording each window is from; None if it can."""
    if recording.dtype != torch.int64 or recording.shape != y.shape:
        found = f"{recording.dtype} {list(recording.shape)}"
        return f"recording (the third tensor) is {found} beside {len(y)} windows; needs int64 [N], a number each"
    if len(recording) and int(recording.min()) < 0:
        return f"recording (the third tensor) has {int(recording.min())}; count recordings from 0"
    return None


def together(recordings: list[Tensor | None]) -> Tensor | None:
    """The recordings of several sets of windows as one tensor; None if those of any set are unknown."""
    known = [recording for recording in recordings if recording is not None]
    return torch.cat(known) if known and len(known) == len(recordings) else None


def parts_by_recording(parts: dict[str, Windows], joined: Windows, adapt_on: tuple[int, ...]) -> dict[str, Windows]:
    """A person's windows as a fine-tune may use them. Of the recordings `adapt_on`, windows in the train and val files
    train and those in the test file choose the epoch, as with base models. All windows of every other recording test.

    `parts` holds the windows of train and val under "train", those of test under "val"; `joined` holds all. Raise
    `Refusal` if a part is empty.
    """
    wanted = {split: _of(windows, adapt_on, True) for split, windows in parts.items()}
    return wanted | {"test": _of(joined, adapt_on, False)}


def _of(windows: Windows, adapt_on: tuple[int, ...], is_in: bool) -> Windows:
    """The windows of the recordings `adapt_on`, or of all others."""
    if windows.recording is None:
        fix = "save (X, y, recording), an int64 number for each window, or leave data.split_by out"
        raise Refusal(f"{windows.name}: does not say which recording a window is from; {fix}")
    known = sorted(set(windows.recording.tolist()))
    if is_in and (missing := sorted(set(adapt_on) - set(known))):
        raise Refusal(f"finetune.adapt_on: {windows.name} has recordings {known}, not {missing[0]}; choose of these")
    chosen = torch.isin(windows.recording, torch.tensor(adapt_on)) == is_in
    if not chosen.any():
        raise Refusal(f"finetune.adapt_on: {windows.name} has no recording beside {known}; nothing is left to test on")
    index = torch.nonzero(chosen)[:, 0]
    x = Rows([windows.x.take(index)])
    return replace(windows, x=x, y=windows.y[index], recording=windows.recording[index])
