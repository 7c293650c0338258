"""Windows from the smartwatch recordings of seglearn: 10 people, 7 shoulder exercises, 6 channels at 50 Hz.

Source: Burns et al., "Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a
smartwatch", Physiological Measurement 39 (2018); data packaged with seglearn (BSD-3).
"""

import json
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch

from ...engine.files import to_bytes
from ...store.files import write_atomically, write_json
from ...study.fingerprints import Fingerprints
from ...study.identity import canonical
from ...study.problems import Refusal
from ...study.run import Run
from .dataset import SMARTWATCH_VERSION
from .folder import SPLITS
from .specs import DataIdentity

LEFT_ARM = 0.0
MIRROR = np.array([-1, 1, 1, 1, -1, -1], dtype=np.float32)  # negates x of the accelerometer, y and z of the gyroscope


def prepare(spec: DataIdentity, folder: Path, run: Run, say: Callable[[str], None]) -> None:
    """Write `{participant}_{train,val,test}.pt` into `folder`, `manifest.json` last."""
    windows: dict[tuple[str, str], list[tuple[np.ndarray, int, int]]] = defaultdict(list)
    short: list[str] = []
    for signal, label, person, side in load_recordings():
        if spec.mirror and side == LEFT_ARM:
            signal = signal * MIRROR
        short += [f"{person} {part}" for part in short_parts(signal, spec)]
        for split, cut in zip(SPLITS, windows_of(signal, spec), strict=True):
            windows[person, split] += [(window, label, int(side)) for window in cut]
    if short and not spec.pad:
        raise Refusal(
            f"data.window_size: {spec.window_size} samples are longer than {len(short)} parts of recordings "
            f"(the first: {short[0]} samples); set data.pad: true or a smaller window"
        )
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    content: dict[str, str] = {}
    for (person, split), rows in sorted(windows.items()):
        x = torch.from_numpy(np.stack([window for window, *_ in rows]))
        y, side = torch.tensor([about for _, *about in rows], dtype=torch.int64).T.contiguous()
        file = folder / f"{person}_{split}.pt"
        write_atomically(file, to_bytes((x, y.clone(), side.clone()) if spec.split_by else (x, y.clone())))
        content[file.name] = Fingerprints().of([file])
        counts[person][split] = len(rows)
    manifest = {
        "spec": json.loads(canonical(spec)),
        "windows": counts,
        "content": content,
        "unit": "accelerometer, gyroscope as recorded",
        "hz": 50,
    }
    write_json(folder / "manifest.json", manifest)
    say(f"{sum(sum(parts.values()) for parts in counts.values())} windows of {len(counts)} people")


def load_recordings() -> list[tuple[np.ndarray, int, str, float]]:
    """Each recording: signal float32 [T, 6], class 0–6, participant, side (0 left, 1 right). seglearn is not imported."""
    try:
        version = distribution("seglearn").version
        path = str(distribution("seglearn").locate_file("seglearn/data/watch_dataset.npy"))
    except PackageNotFoundError:
        raise Refusal(
            "data.name: smartwatch comes with the package seglearn==1.2.5; pip install -r requirements.txt"
        ) from None
    if f"seglearn-{version}" != SMARTWATCH_VERSION:
        raise Refusal(
            f"data.name: smartwatch is {SMARTWATCH_VERSION}, but seglearn {version} is installed; install the pinned one"
        )
    # The file is a pickled dict: trusted because it comes from the pinned package, never from a user.
    content = np.load(path, allow_pickle=True).item()
    columns = zip(content["X"], content["y"], content["subject"], content["side"], strict=True)
    return [(x.astype(np.float32), int(y), f"s{int(subject):02d}", float(side)) for x, y, subject, side in columns]


def windows_of(signal: np.ndarray, spec: DataIdentity) -> list[list[np.ndarray]]:
    """The windows of a recording [T, C] for train, val and test.

    By recording, train and val both train, so there is no boundary between them: they share the windows of one part.
    """
    size, stride, shares = spec.window_size, spec.window_stride, spec.split
    assert size and stride and shares  # built-in data has them all
    if spec.split_by is None:
        return [cut_windows(part, size, stride) for part in split_by_time(signal, shares)]
    learn, choose = (cut_windows(part, size, stride) for part in split_by_time(signal, joined_shares(shares)))
    n_train = round(len(learn) * shares[0] / (shares[0] + shares[1]))
    return [learn[:n_train], learn[n_train:], choose]


def joined_shares(shares: tuple[float, ...]) -> tuple[float, float]:
    """The shares that train and that choose the epoch when whole recordings test."""
    return shares[0] + shares[1], shares[2]


def short_parts(signal: np.ndarray, spec: DataIdentity) -> list[str]:
    """The parts of a recording that are shorter than a window, each with its number of samples."""
    assert spec.window_size and spec.split
    shares, names = spec.split, SPLITS
    if spec.split_by:
        shares, names = joined_shares(shares), ("train and val", "test")
    parts = zip(names, split_by_time(signal, shares), strict=True)
    return [f"{name} {len(part)}" for name, part in parts if len(part) < spec.window_size]


def split_by_time(signal: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """A recording [T, C] cut in time order; no window will cross a cut."""
    ends = np.round(np.cumsum(shares) * len(signal)).astype(int)
    return np.split(signal, ends[:-1])


def cut_windows(part: np.ndarray, size: int, stride: int) -> list[np.ndarray]:
    """Windows [C, size] of a part [T, C]; a part shorter than a window gives one, with zeros at its end."""
    if len(part) < size:
        part = np.pad(part, ((0, size - len(part)), (0, 0)))
    return [np.ascontiguousarray(part[i : i + size].T) for i in range(0, len(part) - size + 1, stride)]
