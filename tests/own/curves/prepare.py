"""Points of every place's curve: x and y, float32 [N, 1]."""

import json

import torch

from rootstock.engine.files import to_bytes
from rootstock.store.files import write_atomically, write_json
from rootstock.study.identity import canonical


def prepare(spec, folder, run, say):
    x = torch.linspace(0, 6, spec.points)[:, None]
    for number, place in enumerate(spec.places):
        write_atomically(folder / f"{place}.pt", to_bytes((x, torch.sin(x + number))))
    write_atomically(folder / "points.json", canonical(spec).encode())
    write_json(folder / "manifest.json", {"spec": json.loads(canonical(spec))})
    say(f"{spec.points} points of {len(spec.places)} places")
