"""What is recorded beside a model: what it is, how well it does, how it was made, who asked."""

import platform
import socket
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..machine.memory import peak_mb
from ..machine.this import user_name
from ..study.parts import Start
from .job import Job

if TYPE_CHECKING:
    from ..engine.loop import Outcome
    from ..engine.progress import Context


def metadata_of(job: Job, outcome: "Outcome", base: Start | None, context: "Context") -> dict[str, Any]:
    """The content of `metadata.json`, except what the store itself adds; `base` is the base model of a fine-tune."""
    import torch

    fitted, start = outcome.fitted, context.start
    used = {"device_used": str(context.device), "world_size": context.world.size, "threads": torch.get_num_threads()}
    return {
        "task": job.spec.task,
        "kind": job.spec.kind,
        "metrics": outcome.metrics,
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "steps": fitted.steps,
        "trained_steps": fitted.trained_steps,
        "seconds": round(fitted.seconds, 3),
        "peak_memory_mb": peak_mb(),
        "peak_gpu_memory_mb": _gpu_peak_mb(context),
        "base_hash": base and base.hash,
        "base_spec": base and base.content["spec"],
        "versions": {"rootstock": __version__, "python": platform.python_version(), "torch": str(torch.__version__)},
        "run": job.run.about() | used | {"compile": fitted.compile},
        "asked_by": {"user": user_name(), "host": socket.gethostname(), **job.asked_by},
        "data": job.data,
        "resumed_from": start and {name: start.get(name) for name in ("hash", "step")},
    }


def _gpu_peak_mb(context: "Context") -> float | None:
    """The peak GPU memory of this process's tensors, in MB of 2^20 bytes; None on a CPU."""
    import torch

    return torch.cuda.max_memory_allocated(context.device) / 2**20 if context.device.type == "cuda" else None
