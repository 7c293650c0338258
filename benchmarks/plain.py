#!/usr/bin/env python
"""The plain training loop with which Rootstock is compared: a careful script of one file, with nothing left out and
nothing slowed down. It knows nothing of Rootstock.

    python benchmarks/plain.py --data DIR --people a b c --out base.pt                       # a base model
    python benchmarks/plain.py --data DIR --people a --start base.pt --mode last_layer_only --out x.pt
    python benchmarks/plain.py --several trainings.json                                      # the same, in one process

Windows are read and normalised once, a DataLoader shuffles a TensorDataset, whole batches are augmented, F1 comes from
scikit-learn, the best epoch's weights are saved.
"""

import argparse
import itertools
import json
import time

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Four blocks of Conv1d, LayerNorm over channels and ReLU, pooled after 1 and 3; 969 parameters for 6 inputs."""

    def __init__(self, channels: int, width: int = 8):
        super().__init__()
        widths = [channels, width, width, width, 2 * width]
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(b, elementwise_affine=False) for b in widths[1:])
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (n, c, t)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.relu(norm(conv(x).permute(0, 2, 1)).permute(0, 2, 1))
            if i in (0, 2):
                x = F.max_pool1d(x, 2)
        return self.head(x.mean(dim=2)).squeeze(1)


def augment(x: torch.Tensor, prob: float = 0.5) -> torch.Tensor:
    """Jitter, magnitude and time warp of a batch of normalised windows, each applied to a share `prob` of them."""
    n, _channels, _length = x.shape
    chosen = torch.rand(3, n, 1, 1) < prob
    x = torch.where(chosen[0], warp(x), x)
    x = torch.where(chosen[1], x * (0.8 + 0.4 * torch.rand(n, 1, 1)), x)
    return torch.where(chosen[2], x + 0.05 * torch.randn_like(x), x)


def warp(x: torch.Tensor, strength: float = 0.2) -> torch.Tensor:
    n, channels, length = x.shape
    time_of = torch.linspace(0, 1, length)
    speed, phase = (2 * torch.rand(n, 1) - 1) * strength, 2 * np.pi * torch.rand(n, 1)
    place = time_of + speed * (torch.sin(2 * np.pi * time_of + phase) - torch.sin(phase)) / (2 * np.pi)
    place = (place * (length - 1)).clamp(0, length - 1)
    left = place.long().clamp(max=length - 2)
    weight, index = (place - left)[:, None], left[:, None].expand(n, channels, length)
    return torch.gather(x, 2, index) * (1 - weight) + torch.gather(x, 2, index + 1) * weight


def read(folder: str, people: list[str], splits: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [torch.load(f"{folder}/{p}_{s}.pt", weights_only=True) for p in people for s in splits]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader) -> tuple[float, float]:
    model.eval()
    loss, predicted, actual = 0.0, [], []
    for x, y in loader:
        logits = model(x)
        loss += F.binary_cross_entropy_with_logits(logits, y, reduction="sum").item()
        predicted.append((logits > 0).long().numpy())
        actual.append(y.long().numpy())
    actual = np.concatenate(actual)
    return loss / len(actual), f1_score(actual, np.concatenate(predicted), average="macro", zero_division=0)


def train(job: dict) -> None:
    """Train a base model (train and val sets of the people; their test sets choose the epoch), or a fine-tune of one
    (train set; the val set chooses)."""
    torch.manual_seed(job["seed"])
    start = torch.load(job["start"], weights_only=True) if job["start"] else None
    x, y = read(job["data"], job["people"], ["train"] if start else ["train", "val"])
    check = read(job["data"], job["people"], ["val" if start else "test"])
    if job["share"] < 1:
        chosen = torch.randperm(len(x))[: max(1, round(job["share"] * len(x)))]
        x, y = x[chosen], y[chosen]
    mean, std = (start["mean"], start["std"]) if start else (x.mean((0, 2), keepdim=True), x.std((0, 2), keepdim=True))
    model, metrics = Net(x.shape[1]), {}
    loader = DataLoader(TensorDataset((x - mean) / std, y), batch_size=job["batch_size"], shuffle=True)
    val = DataLoader(TensorDataset((check[0] - mean) / std, check[1]), batch_size=job["batch_size"])
    if start:
        model.load_state_dict(start["model"])
        test_x, test_y = read(job["data"], job["people"], ["test"])
        test = DataLoader(TensorDataset((test_x - mean) / std, test_y), batch_size=job["batch_size"])
        metrics["base_test"] = evaluate(model, test)
    if job["mode"] == "last_layer_only":
        model.requires_grad_(False)
        model.head.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=job["lr"])
    best, history = float("inf"), []
    for _ in range(job["epochs"]):
        model.train()
        for batch, target in loader:
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(augment(batch)), target)
            loss.backward()
            optimizer.step()
        history.append(evaluate(model, val))
        if history[-1][0] < best:
            best = history[-1][0]
            torch.save({"model": model.state_dict(), "mean": mean, "std": std}, job["out"])
    metrics["history"] = history
    if start:
        model.load_state_dict(torch.load(job["out"], weights_only=True)["model"])
        metrics["test"] = evaluate(model, test)
    with open(job["out"] + ".json", "w") as file:
        json.dump(metrics, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--people", nargs="+")
    parser.add_argument("--out")
    parser.add_argument("--start")
    parser.add_argument("--mode", default="full")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--several", help="a JSON list of trainings: all in this process")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.several:
        train(vars(args))
        return
    with open(args.several) as file:
        jobs = json.load(file)
    begun = time.process_time()
    for job in jobs:
        train(vars(parser.parse_args([])) | job)
    print(time.process_time() - begun)


if __name__ == "__main__":
    main()
