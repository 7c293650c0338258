"""What Rootstock changes about the Slurm plugin's executor, at the start of a run, and the jobs of a run that was killed.

Each change is one method of the plugin's documented interface, replaced on the one executor of this run; the tests on a
real Slurm hold all of them, and requirements.txt pins the plugin.
"""

import asyncio
import atexit
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any

from ..cluster.slurm_files import JOB_MARK, Layout
from ..machine.private import own_cluster
from ..store.lock import hold, is_held
from ..study.problems import Refusal
from ..study.told import printable
from ..warm.client import IN_SLURM

CONTROLLERS = Path(".rootstock/controllers")
SHARED = {"gpu", "nodes"}  # by the fine-tunes of one job
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")


def prepare_run(executor: Any, say: Callable[[str], None], at_once: int = 1) -> bool:
    """Called once, before the first job is submitted. Does nothing unless jobs go to Slurm; returns whether they do. Of several
    fine-tunes in one job, `at_once` run at a time."""
    if type(executor).__module__ != "snakemake_executor_plugin_slurm":
        return False
    use_own_cluster()
    start_snakemake_once(executor, at_once)
    share_gpu(executor)
    tell_refusals(executor, say)
    poll_steadily(executor)
    keep_jobs_while_slurm_is_silent(executor)
    ask_for_no_account(executor)
    cancel_leftovers(Path.cwd(), say)
    name_jobs(executor)
    return True


def use_own_cluster() -> None:
    """Where nothing says which Slurm is meant, it is the one that `cluster.py up` made here."""
    root = own_cluster()
    own = root and Layout(root).slurm_conf
    if own and "SLURM_CONF" not in os.environ and not SYSTEM_CONF.exists() and own.exists():
        os.environ["SLURM_CONF"] = str(own)


def is_slurm_here() -> bool:
    """Whether jobs of this machine's runs may go to a Slurm."""
    use_own_cluster()
    return shutil.which("sbatch") is not None and ("SLURM_CONF" in os.environ or SYSTEM_CONF.exists())


def start_snakemake_once(executor: Any, at_once: int) -> None:
    """Run a job inside the batch step, by Snakemake's local executor.

    The plugin's jobstep executor would start a second Snakemake through srun: twice the fixed cost of a job, no
    SLURM_CONF in it (it strips SLURM_*), and a step that Slurm ends before a training has saved its checkpoint.
    Of several fine-tunes in one job, one that fails does not stop the others.
    """
    executor.additional_general_args = lambda: f"--executor local --jobs {at_once} --keep-going"


def share_gpu(executor: Any) -> None:
    """Of several fine-tunes in one job, ask for the node and the GPU of one. Snakemake adds up what those that run at a time ask for,
    which is right for cores and memory; and the Snakemake in the job, told of one GPU, would run them one after another."""
    submit, declared = executor.run_jobs, executor.get_resource_declarations_dict

    def run_jobs(jobs: list[Any]) -> None:
        for job in jobs:
            if job.is_group():
                asked = dict(job.resources.items())  # its members' added up, and kept until it is tried again
                job._resources |= {
                    name: max(one.resources.get(name, 0) for one in job) for name in SHARED & asked.keys()
                }
        submit(jobs)

    def get_resource_declarations_dict(job: Any) -> dict[str, int]:
        told = declared(job)
        return {name: value for name, value in told.items() if name not in SHARED} if job.is_group() else told

    executor.run_jobs, executor.get_resource_declarations_dict = run_jobs, get_resource_declarations_dict


def tell_refusals(executor: Any, say: Callable[[str], None]) -> None:
    """Of a job of several Snakemake does not tell why sbatch refused it."""
    error = executor.report_job_error

    def report_job_error(info: Any, *arguments: Any, **more: Any) -> None:
        told = str(more.get("msg") or (arguments or ("",))[0])
        if info.job.is_group() and told.startswith("SLURM sbatch failed"):
            say(printable(" ".join(told.partition("sbatch call:")[0].split())))
        error(info, *arguments, **more)

    executor.report_job_error = report_job_error


def share_warm_process(command: list[str]) -> None:
    """In the Snakemake of a Slurm job, by its command line: of several fine-tunes the first starts what the others are forked from."""
    after = command[command.index("--target-jobs") + 1 :] if "--target-jobs" in command else []
    if len(list(takewhile(lambda word: not word.startswith("--"), after))) > 1:
        os.environ[IN_SLURM] = "1"


def poll_steadily(executor: Any) -> None:
    """Let `seconds-between-status-checks` be the longest pause; the plugin adds 10 s after each poll without news, up to 180."""
    longest = executor.workflow.remote_execution_settings.seconds_between_status_checks

    async def sleep() -> None:
        await asyncio.sleep(min(executor.next_seconds_between_status_checks, longest))

    executor.sleep = sleep


def keep_jobs_while_slurm_is_silent(executor: Any) -> None:
    """The plugin forgets all its jobs when its query fails, as while slurmctld is restarted, and then waits for ever.

    It also waits for ever for a job that a slurmctld forgot because it was killed before it had saved its state.
    """
    check, success, error = executor.check_active_jobs, executor.report_job_success, executor.report_job_error
    settled: set[int] = set()
    lost = _Lost()

    def report_job_success(job: Any) -> None:
        settled.add(id(job))
        success(job)

    def report_job_error(job: Any, *arguments: Any, **more: Any) -> None:
        settled.add(id(job))
        error(job, *arguments, **more)

    async def check_active_jobs(jobs: list[Any]) -> AsyncIterator[Any]:
        settled.clear()
        still = [job async for job in check(jobs)]
        known = settled | {id(job) for job in still}
        still += [job for job in jobs if id(job) not in known]
        vanished = lost.among({job.external_jobid for job in still}, executor.run_uuid)
        for job in still:
            if job.external_jobid in vanished:
                error(
                    job, msg=f"SLURM-job '{job.external_jobid}' is not known to Slurm any more; it is submitted again."
                )
            else:
                yield job

    executor.report_job_success, executor.report_job_error = report_job_success, report_job_error
    executor.check_active_jobs = check_active_jobs


class _Lost:
    """Jobs that Slurm, asked now and then, does not list twice in a row though it answers."""

    PAUSE_SECONDS = 20

    def __init__(self):
        self.missing: set[str] = set()
        self.asked = time.monotonic()

    def among(self, jobs: set[str], run: str) -> set[str]:
        if time.monotonic() - self.asked < self.PAUSE_SECONDS:
            return set()
        self.asked = time.monotonic()
        try:
            listed = _slurm("squeue", "--noheader", "--states=all", f"--name={run}", "--format=%i").split()
        except Refusal:
            return set()
        missing, self.missing = self.missing, jobs - set(listed)
        return missing & self.missing


def ask_for_no_account(executor: Any) -> None:
    """Make `slurm-no-account: true` mean that: the plugin guesses an account by sacct, which may not answer."""
    if not executor.workflow.executor_settings.no_account:
        return
    ask = executor.get_account_arg

    def get_account_arg(job: Any) -> Iterator[str]:
        yield from ask(job) if job.resources.get("slurm_account") else [""]

    executor.get_account_arg = get_account_arg


def name_jobs(executor: Any) -> None:
    """Name this run's jobs after this controller, and hold its lock for as long as this process lives."""
    name = f"{JOB_MARK}{secrets.token_hex(4)}"
    alive = ExitStack()
    alive.enter_context(hold(CONTROLLERS / name, say=lambda _: None))
    atexit.register(alive.close)
    executor.run_uuid = f"{name}_{executor.run_uuid}"


def cancel_leftovers(folder: Path, say: Callable[[str], None], seconds: float = 90) -> list[str]:
    """End the jobs of this folder whose controller is dead: they would write beside ours. Their trainings save themselves.

    Jobs of another living controller in the same folder are left alone. Returns the ids that were cancelled.
    """
    left = _leftovers(folder)
    if not left:
        return []
    say(f"cancelling {len(left)} Slurm job(s) of an earlier run that was killed: {' '.join(left)}")
    _slurm("scancel", *left)
    deadline = time.monotonic() + seconds
    while (going := [job for job in _leftovers(folder) if job in left]) and time.monotonic() < deadline:
        time.sleep(0.5)
    if going:
        raise Refusal(
            f"Slurm job(s) {' '.join(going)} of an earlier run do not end; look at them with squeue, then run again"
        )
    return left


def _leftovers(folder: Path) -> list[str]:
    lines = _slurm("squeue", "--me", "--noheader", "--format=%i|%j|%Z").splitlines()
    jobs = [line.split("|", 2) for line in lines]
    ours = [
        (job, name.partition("_")[0]) for job, name, place in jobs if name.startswith(JOB_MARK) and _same(place, folder)
    ]
    return [job for job, controller in ours if not is_held(CONTROLLERS / controller)]


def _same(place: str, folder: Path) -> bool:
    return os.path.realpath(place) == os.path.realpath(folder)


def _slurm(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        raise Refusal(f"{command[0]}: not found; is this a machine from which Slurm jobs are submitted?") from None
    except subprocess.TimeoutExpired:
        raise Refusal(f"{command[0]}: Slurm does not answer; see sinfo") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"{command[0]}: exit status {error.returncode}"])[-1]
        raise Refusal(f"{reason}; is Slurm running? see sinfo") from None
