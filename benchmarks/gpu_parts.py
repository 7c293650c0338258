"""The parts of `gpu.py`. Each reports rows as it finds them, and also runs small on a CPU, so that tests cover it."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_packing import packing
from gpu_tasks import tasks
from gpu_work import SIZES, WARM_UP, Tell, Work, adamw_of, as_the_engine_does, step_of, synchronise
from torch import nn

from rootstock.engine import loop
from rootstock.engine.progress import Context

GROUPS, GROUP_SECONDS = 5, 0.2
LAUNCHES = 2000
TRAINED_STEPS, BREAK = 20, 8  # steps of a training compared bit by bit, and the step at which it resumes
KINDS = {  # the engine's precision, torch's precision of matrix products, and whether convolutions may use TF32
    "float32 without TF32": ("float32", "highest", False),
    "float32": ("float32", "highest", True),
    "float32 with TF32": ("float32", "high", True),
    "bf16": ("bf16", "highest", True),
    "fp16": ("fp16", "highest", True),
}


def about(device: str) -> dict[str, Any]:
    """The machine on which the parts are measured."""
    found: dict[str, Any] = {"torch": torch.__version__, "cores": os.cpu_count(), "device": device}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "GiB": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
        }
        mps = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), "control")
        found |= {"multiprocessors": properties.multi_processor_count, "mps": mps.exists()}
    return found


def steps(tell: Tell, device: torch.device, folder: Path, quick: bool = False) -> None:
    """Milliseconds per step, in each way that a machine offers. The launch limit is that of as many empty kernels."""
    as_the_engine_does()
    launch = _launch(tell, device)
    for name, size in SIZES.items():
        work, kernels = Work(size(quick), device), None
        with _told_if_it_fails(tell, f"{name}: kernels"):
            kernels = _kernels(work, device)
        limit = {"launch limit ms": launch * kernels} if launch and kernels else {}
        for way, make in _ways(device, quick).items():
            with _told_if_it_fails(tell, f"{name}: {way}"):
                began = time.perf_counter()
                run = make(work)
                first = time.perf_counter() - began
                tell(f"{name}: {way}", ms=1000 * _seconds(run, device, quick), first_s=first, kernels=kernels, **limit)
        with _told_if_it_fails(tell, f"{name}: the engine's loop"):
            tell(f"{name}: the engine's loop", ms=1000 * _seconds_in_the_loop(work, device, quick))


def _ways(device: torch.device, quick: bool) -> dict[str, Callable[[Work], Callable[[], object]]]:
    """The ways to run a step. Each makes the first call, which compiles or captures."""
    ways: dict[str, Callable[[Work], Callable[[], object]]] = {"eager": lambda work: _first(step_of(work))}
    if not quick:
        ways["compiled"] = lambda work: _first(step_of(work, _compiled(work)))
    if device.type == "cuda":
        ways["compiled, reduce-overhead"] = lambda work: _first(step_of(work, _compiled(work, mode="reduce-overhead")))
        ways["CUDA graph"] = lambda work: _captured(work, work.model)
        ways["compiled, CUDA graph"] = lambda work: _captured(work, _compiled(work))
    return ways


def _first(step: Callable[[], object]) -> Callable[[], object]:
    step()
    return step


def _compiled(work: Work, **how: str) -> Any:
    """As `engine.compiling` does."""
    torch._dynamo.reset()
    torch.use_deterministic_algorithms(True)
    return torch.compile(work.model, **how)


def _captured(work: Work, model: nn.Module) -> Callable[[], object]:
    """A whole step as one CUDA graph, including the optimizer's, warmed up on a separate stream, as torch requires."""
    optimizer = adamw_of(work.model, capturable=True)
    step = step_of(work, model, optimizer)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return _first(graph.replay)


def _launch(tell: Tell, device: torch.device) -> float | None:
    """Report the launch of an empty kernel, alone and in a CUDA graph; return the former in milliseconds."""
    if device.type != "cuda":
        return None
    with _told_if_it_fails(tell, "an empty kernel"):
        alone = 1000 * _seconds(_empty_kernels, device) / LAUNCHES
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _empty_kernels()
        in_graph = 1000 * _seconds(graph.replay, device) / LAUNCHES
        tell("an empty kernel", us=1000 * alone, us_in_a_graph=1000 * in_graph)
        return alone
    return None


def _empty_kernels() -> None:
    for _ in range(LAUNCHES):
        torch.cuda._sleep(0)


def _kernels(work: Work, device: torch.device) -> int | None:
    """How many kernels and copies a step launches on the GPU."""
    if device.type != "cuda":
        return None
    step = _first(step_of(work))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())


def _seconds_in_the_loop(work: Work, device: torch.device, quick: bool) -> float:
    """Seconds per step of `engine.loop.fit`, including seeding, counting and the schedule, not data and evaluation."""
    count = 6 if quick else 200
    trainee = work.trainee(count)
    began: list[float] = []
    whole = loop.seed_step

    def begin(*key: int) -> None:
        if len(began) == WARM_UP:
            synchronise(device)
        began.append(time.perf_counter())
        whole(*key)

    loop.seed_step = begin
    try:
        loop.fit(trainee, work.spec(), Context(device, say=lambda _: None))
    finally:
        loop.seed_step = whole
    return (trainee.ended - began[WARM_UP]) / (count - WARM_UP)


def determinism(tell: Tell, device: torch.device, folder: Path, quick: bool = False) -> None:
    """Whether a training gives the same bits when repeated and when resumed, with and without torch's deterministic
    kernels, and the cost of a step. `unfilled`: deterministic, but uninitialised memory is not filled."""
    for name, size in SIZES.items():
        for mode in ("deterministic", "unfilled", "free"):
            with _told_if_it_fails(tell, f"{name}: {mode}"), _determinism(mode):
                works = [Work(size(quick), device) for _ in range(3)]
                straight, again = (_trained(one) for one in works[:2])
                resumed = _trained(works[2], BREAK)
                ms = 1000 * _seconds(step_of(works[0]), device, quick)
                tell(f"{name}: {mode}", again=_compared(straight, again), resumed=_compared(straight, resumed), ms=ms)


@contextlib.contextmanager
def _determinism(mode: str) -> Iterator[None]:
    torch.use_deterministic_algorithms(mode != "free")
    torch.utils.deterministic.fill_uninitialized_memory = mode != "unfilled"
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True


def _trained(work: Work, break_at: int | None = None) -> list[torch.Tensor]:
    """The weights after some steps; at `break_at` all state moves to the CPU and into a new model and optimizer."""
    optimizer = adamw_of(work.model)
    step = step_of(work, work.model, optimizer)
    for number in range(TRAINED_STEPS):
        if number == break_at:
            model, state = ({n: v.cpu() for n, v in work.model.state_dict().items()}, _on_cpu(optimizer.state_dict()))
            work.renew(model)
            optimizer = adamw_of(work.model)
            optimizer.load_state_dict(state)
            step = step_of(work, work.model, optimizer)
        loop.seed_step(0, number)
        step()
    return [parameter.detach().cpu().clone() for parameter in work.model.parameters()]


def _on_cpu(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.cpu()
    return {name: _on_cpu(value) for name, value in state.items()} if isinstance(state, dict) else state


def _compared(one: list[torch.Tensor], other: list[torch.Tensor]) -> str:
    if all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
        return "same bits"
    return f"differs by {max((a - b).abs().max().item() for a, b in zip(one, other, strict=True)):.1e}"


def precision(tell: Tell, device: torch.device, folder: Path, quick: bool = False) -> None:
    """A step in half precision and in float32, and the loss after some steps. By default torch, and so the engine,
    allows TF32 in float32 convolutions but not in matrix products."""
    as_the_engine_does()
    for name, size in SIZES.items():
        for kind, (dtype, products, convolutions_in_tf32) in KINDS.items():
            with _told_if_it_fails(tell, f"{name}: {kind}"):
                torch.set_float32_matmul_precision(products)
                torch.backends.cudnn.allow_tf32 = convolutions_in_tf32
                step = step_of(Work(size(quick), device, dtype))
                losses = [float(step()) for _ in range(TRAINED_STEPS)]
                tell(f"{name}: {kind}", ms=1000 * _seconds(step, device, quick), first_loss=losses[0], loss=losses[-1])


def _seconds(run: Callable[[], object], device: torch.device, quick: bool = False) -> float:
    """Median seconds per call, over groups of calls that are synchronised only at their end."""
    for _ in range(1 if quick else WARM_UP):
        run()
    synchronise(device)
    began = time.perf_counter()
    run()
    synchronise(device)
    count = 1 if quick else max(1, round(GROUP_SECONDS / (time.perf_counter() - began)))
    return statistics.median(_group(run, count, device) for _ in range(1 if quick else GROUPS))


def _group(run: Callable[[], object], count: int, device: torch.device) -> float:
    began = time.perf_counter()
    for _ in range(count):
        run()
    synchronise(device)
    return (time.perf_counter() - began) / count


@contextlib.contextmanager
def _told_if_it_fails(tell: Tell, what: str) -> Iterator[None]:
    """Report a failure as a row, so that the other rows follow."""
    try:
        yield
    except Exception as error:
        tell(what, failed=f"{type(error).__name__}: {error}".splitlines()[0][:200])


PARTS: dict[str, Callable[..., None]] = {
    "steps": steps,
    "packing": packing,
    "determinism": determinism,
    "precision": precision,
    "tasks": tasks,
}
