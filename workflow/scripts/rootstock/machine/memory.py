"""How much memory this process took, and how it keeps what it freed. glibc gives large pieces back to the system at once: a training
that takes tensors of megabytes at every step then waits for zeroed pages at every step."""

import ctypes
from pathlib import Path

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of glibc's `mallopt`
KEPT = 2**30  # bytes: above what a step of a training takes at once
STEP = 2**25  # bytes by which the heap grows


def keep_freed_memory() -> None:
    """Use freed memory again, of tensors of up to a gigabyte; nothing happens where the C library is another than glibc."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((MMAP_THRESHOLD, KEPT), (TRIM_THRESHOLD, KEPT), (TOP_PAD, STEP)):
        mallopt(option, value)


def peak_mb() -> float | None:
    """The most memory that this process had at once, in MB, pages that it shares with others included; None where the
    system does not tell. Not by `getrusage`, whose peak a process takes over from the one that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return None
