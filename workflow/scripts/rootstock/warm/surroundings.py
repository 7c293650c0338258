"""What a process inherits. A client hands one part over to its forked job; the other part must match the warm process.

Stdlib only, and little of it: each job's client loads this.
"""

import os
import resource
import signal
import sys

# Variables that differ between shells and jobs, and that no module reads while it is loaded. All others must be the same in a warm
# process and its client, so that an unknown one costs a second warm process and never a wrong result.
PASSING = {"_", "PWD", "OLDPWD", "SHLVL", "TERM", "COLORTERM", "COLUMNS", "LINES", "CUDA_VISIBLE_DEVICES"}
PASSING |= {"DISPLAY", "WINDOWID", "TMUX", "TMUX_PANE", "STY"}
PASSING_BEGINNINGS = ("SSH_", "XDG_SESSION_", "DBUS_SESSION_", "TERM_", "SNAKEMAKE", "SLURM", "ROOTSTOCK_", "PYTEST_")
KEPT = "SLURM_JOB_ID"  # a warm process serves one Slurm job, because it runs within that job's limits

CREDENTIALS = ("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:")
LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
Request = dict


def surroundings() -> str:
    """Everything that a job inherits and a client cannot hand over."""
    program = [sys.executable, sys.version, os.path.realpath(sys.path[0]), *sys.path[1:]]
    variables = sorted(f"{name}={value}" for name, value in os.environ.items() if name == KEPT or not _is_passing(name))
    return "\0".join([*program, *variables, rights_of("self")])


def rights_of(process: int | str) -> str:
    """The part of the surroundings that the kernel shows of any process, to be checked without trusting the client: rights,
    cgroups, namespaces, CPUs."""
    rights = [line for line in _lines(process, "status") if line.startswith(CREDENTIALS)]
    groups = [*_lines(process, "cgroup"), *_lines(process, "oom_score_adj")]
    spaces = [_inode(f"/proc/{process}/ns/{name}") for name in ("mnt", "pid", "net", "user", "ipc", "uts")]
    pid = 0 if process == "self" else int(process)
    cpus = f"{sorted(os.sched_getaffinity(pid))} {os.sched_getscheduler(pid)}"
    return "\0".join([*rights, *groups, *spaces, _inode(f"/proc/{process}/root/."), cpus])


def handed_over() -> Request:
    """What a job takes over from its client besides stdin, stdout and stderr."""
    umask = os.umask(0o77)
    os.umask(umask)
    return {
        "surroundings": surroundings(),
        "argv": sys.argv,
        "path": sys.path,
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "umask": umask,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": {limit: resource.getrlimit(limit) for limit in LIMITS},
        "ignored": [int(number) for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }


def take_over(request: Request, before: frozenset[str]) -> None:
    """Become a process that inherited what a client handed over. Raise `OSError` or `ValueError` if that is not permitted. Keep
    variables that are not in `before`: the loaded modules have set them, as they do in a cold job."""
    variables = {name: value for name, value in os.environ.items() if name not in before} | request["variables"]
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(request["folder"])
    os.umask(request["umask"])
    if request["nice"] != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, request["nice"])
    _take_signals(request["ignored"], request["blocked"])
    sys.argv, sys.path[:] = request["argv"], request["path"]
    for limit, wanted in request["limits"].items():
        if wanted != resource.getrlimit(limit):
            resource.setrlimit(limit, wanted)


def close_from(first: int) -> None:
    """Close all descriptors from `first` upwards."""
    os.closerange(first, max(map(int, os.listdir("/proc/self/fd"))) + 1)


def _take_signals(ignored: list[int], blocked: list[int]) -> None:
    """Set each signal as Python does when it starts: SIGINT raises KeyboardInterrupt unless it is ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        wanted = signal.SIG_IGN if number in ignored else usual
        if signal.getsignal(number) != wanted:
            signal.signal(number, wanted)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _is_passing(name: str) -> bool:
    return name in PASSING or name.startswith(PASSING_BEGINNINGS)


def _lines(process: int | str, name: str) -> list[str]:
    with open(f"/proc/{process}/{name}") as file:
        return file.read().splitlines()


def _inode(path: str) -> str:
    status = os.stat(path)
    return f"{status.st_dev}:{status.st_ino}"
