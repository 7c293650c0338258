"""torch.compile, if this machine can."""

import os
import platform
import shutil
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ..machine.private import make_own
from ..study.identity import short_digest
from ..study.problems import Refusal
from ..study.run import Run

CACHE = Path(".rootstock/compiled")  # the compiled code of a project's jobs lies beside it


def decided(run: Run, steps: int, repaid_after: int | None, device: torch.device) -> Run:
    """Run settings that say whether a training of so many steps is compiled. With `auto` it is compiled on a CPU with a
    compiler if it takes more steps than `repaid_after`, after which compiling has saved what it costs. A resumed
    training keeps the choice in its checkpoint."""
    if run.compile != "auto":
        return run
    is_repaid = device.type == "cpu" and _compiler() is not None and repaid_after is not None and steps > repaid_after
    return run.model_copy(update={"compile": is_repaid})


def compiled(model: nn.Module) -> nn.Module:
    """Return `model` compiled; both share their weights. Raise `Refusal` if the model is on a CPU without a
    compiler."""
    on_cpu = not next(model.parameters()).is_cuda
    if on_cpu and _compiler() is None:
        raise Refusal("run.compile: true needs a C++ compiler on a CPU; install g++, or leave it out")
    if CACHE.parent.is_dir() and "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        cache = CACHE.with_name(
            f"compiled-{os.geteuid()}-{_cpu()}"
        )  # per user and kind of CPU: it is code for -march=native
        make_own(cache, "remove it")  # its content is executed
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache.absolute())
    torch.use_deterministic_algorithms(True)  # tells the compiler too
    return cast(nn.Module, torch.compile(model))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.machine()]
    return short_digest(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))
