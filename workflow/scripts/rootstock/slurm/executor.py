"""Change the Slurm plugin's executor at the start of a run, and cancel the jobs of earlier runs that were killed.

Each change replaces methods or attributes of this run's executor only. Tests on a real Slurm cover all changes, and
requirements.txt pins the plugin.
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
SHARED = {"gpu", "nodes"}  # resources that the fine-tunes of one job share
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")


def prepare_run(executor: Any, say: Callable[[str], None], at_once: int = 1) -> bool:
    """Change the executor, once, before it submits the first job. Return whether jobs go to Slurm; if not, do nothing.
    Of several fine-tunes in one job, `at_once` run at a time."""
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
    """Use the cluster that `cluster.py up` made here, unless something else says which Slurm is meant."""
    root = own_cluster()
    own = root and Layout(root).slurm_conf
    if own and "SLURM_CONF" not in os.environ and not SYSTEM_CONF.exists() and own.exists():
        os.environ["SLURM_CONF"] = str(own)


def is_slurm_here() -> bool:
    """Whether runs on this machine can submit jobs to a Slurm cluster."""
    use_own_cluster()
    return shutil.which("sbatch") is not None and ("SLURM_CONF" in os.environ or SYSTEM_CONF.exists())


def start_snakemake_once(executor: Any, at_once: int) -> None:
    """Run a job inside the batch step, with Snakemake's local executor.

    The plugin's jobstep executor would start a second Snakemake through srun: twice the fixed cost of a job, no
    SLURM_CONF in it (it strips SLURM_*), and a step that Slurm ends before a training has saved its checkpoint.
    If one of several fine-tunes in a job fails, the others go on.
    """
    executor.additional_general_args = lambda: f"--executor local --jobs {at_once} --keep-going"


def share_gpu(executor: Any) -> None:
    """Ask for one node and the GPU of one fine-tune if several share a job.

    Snakemake adds up the requests of those that run at a time, which is right for cores and memory only. The Snakemake
    inside the job is not told about nodes and GPUs: with one GPU it would run the fine-tunes one after another.
    """
    submit, declared = executor.run_jobs, executor.get_resource_declarations_dict

    def run_jobs(jobs: list[Any]) -> None:
        for job in jobs:
            if job.is_group():
                asked = dict(job.resources.items())  # summed over its members, and kept for further attempts
                job._resources |= {
                    name: max(one.resources.get(name, 0) for one in job) for name in SHARED & asked.keys()
                }
        submit(jobs)

    def get_resource_declarations_dict(job: Any) -> dict[str, int]:
        told = declared(job)
        return {name: value for name, value in told.items() if name not in SHARED} if job.is_group() else told

    executor.run_jobs, executor.get_resource_declarations_dict = run_jobs, get_resource_declarations_dict


def tell_refusals(executor: Any, say: Callable[[str], None]) -> None:
    """Report why sbatch refused a job of several fine-tunes, because Snakemake does not."""
    error = executor.report_job_error

    def report_job_error(info: Any, *arguments: Any, **more: Any) -> None:
        told = str(more.get("msg") or (arguments or ("",))[0])
        if info.job.is_group() and told.startswith("SLURM sbatch failed"):
            say(printable(" ".join(told.partition("sbatch call:")[0].split())))
        error(info, *arguments, **more)

    executor.report_job_error = report_job_error


def share_warm_process(command: list[str]) -> None:
    """In a Slurm job of several fine-tunes, let the first one start the warm process from which the others are forked.
    `command` is the command line of the job's Snakemake."""
    after = command[command.index("--target-jobs") + 1 :] if "--target-jobs" in command else []
    if len(list(takewhile(lambda word: not word.startswith("--"), after))) > 1:
        os.environ[IN_SLURM] = "1"


def poll_steadily(executor: Any) -> None:
    """Make `seconds-between-status-checks` the longest pause; the plugin adds 10 s after each idle poll, up to 180."""
    longest = executor.workflow.remote_execution_settings.seconds_between_status_checks

    async def sleep() -> None:
        await asyncio.sleep(min(executor.next_seconds_between_status_checks, longest))

    executor.sleep = sleep


def keep_jobs_while_slurm_is_silent(executor: Any) -> None:
    """Keep all jobs when a query fails, as while slurmctld restarts; the plugin forgets them and then waits for ever.

    The plugin also waits for ever for a job that slurmctld forgot because it was killed before it saved its state.
    Such a job is reported as failed.
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
    """Find jobs that two successive answers of Slurm do not list. Ask at most every `PAUSE_SECONDS`."""

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
    """Enforce `slurm-no-account: true`: the plugin would still guess an account with sacct, which may not answer."""
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
    """Cancel the jobs of this folder whose controller is dead, because they would write beside ours.

    Their trainings save a checkpoint first. Jobs of another living controller in this folder go on. Return the
    cancelled ids. Raise `Refusal` if a job has not ended after `seconds`.
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
