"""torch.compile, where this machine can."""

import os
import shutil
from typing import cast

import torch
from torch import nn

from ..study.problems import Refusal


def compiled(model: nn.Module) -> nn.Module:
    """The same model, compiled; its weights stay those of `model`. `Refusal` where there is no compiler for the CPU."""
    on_cpu = not next(model.parameters()).is_cuda
    if on_cpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise Refusal("run.compile: true needs a C++ compiler on a CPU; install g++, or leave it out")
    torch.use_deterministic_algorithms(True)  # tells the compiler too
    return cast(nn.Module, torch.compile(model))
