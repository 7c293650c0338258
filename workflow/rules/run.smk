# In:   the plan, and the jobs that Snakemake is about to start
# Out:  what a person sees of a run: its begin, its failures, its answer; results/<study>/run_log.json
import atexit
from contextlib import ExitStack, suppress
from functools import partial

from rootstock.controller.answer import AnswerAgain, answer, log_lines, make_room, partial_answer
from rootstock.controller.checking import in_store, require_what_runs_need
from rootstock.controller.code import code_notes, remember_code, require_code_of
from rootstock.controller.planning import begin_run, headline, to_do
from rootstock.controller.rows import keep_rows
from rootstock.controller.run_log import RunLog
from rootstock.controller.screen import AGAIN, STOPPED, Stop, take_screen
from rootstock.controller.turns import take_turn, turn_of
from rootstock.slurm.executor import prepare_run
from rootstock.study.told import printable, told_as_lines

PLAN_LINES = headline(PLAN)
HELD = ExitStack()  # this run's turn in the folder
STOP = Stop()
SCREEN = take_screen(logger, workflow.output_settings, STOP)
say = partial(print, file=sys.stderr, flush=True)
logger.addHandler(AnswerAgain(PLAN, is_dry=lambda: workflow.dryrun, wait=SCREEN.wait))


def tell_plan(jobs):
    """What the run is about, how much of it the store hands back, and what is to be done."""
    notes = [f"note: {note}" for note in code_notes(PLAN, OTHER_CODE)]
    say(*map(printable, [*PLAN_LINES, *notes]), in_store(PLAN, OTHER_CODE), to_do(jobs, workflow.rules), sep="\n")


def require_code(jobs):
    """Stop before jobs that would come upon models of other code."""
    bases = [PLAN.bases[job.wildcards.hash] for job in jobs if job.rule.name == "train_base"]
    tuned = [job.wildcards for job in jobs if job.rule.name == "train_finetune"]
    exported = [PLAN.exports[job.wildcards.export].hash for job in jobs if job.rule.name == "export"]
    begun = [*bases, *(PLAN.experiments[wildcards.prefix, wildcards.unit] for wildcards in tuned)]
    with told_as_lines():
        require_code_of(PLAN, OTHER_CODE, begun, exported)


def end_of_dry_run():
    """What a run tells when it starts: `-n` calls no handler, and is known for what it is only after this file was read."""
    if workflow.dryrun:
        jobs = list(workflow.dag.needrun_jobs(exclude_finished=False)) if workflow.dag else []
        tell_plan(jobs)
        with suppress(SystemExit):
            require_code(jobs)


atexit.register(end_of_dry_run)


def start_of_run(scheduler, jobs):
    """What the run is about, its turn in this folder, how its jobs are submitted on Slurm, its progress, and its log at the
    end, however it ends."""
    tell_plan(jobs)
    require_code(jobs)
    with told_as_lines():
        if any(job.rule.name in ("train_base", "train_finetune") for job in jobs):
            require_what_runs_need(PLAN, workflow.local_exec, not workflow.deployment_settings.deployment_method)
        try:
            HELD.enter_context(take_turn(turn_of(STUDY, jobs), say, RUN.wait_seconds))
        except KeyboardInterrupt:
            sys.exit(130)
        atexit.register(HELD.close)
        begin_run(PLAN, say)
        remember_code(PLAN)
        make_room(PLAN, say)
        if prepare_run(scheduler._executor, say=say, at_once=RUN.at_once):
            HELD.callback(keep_rows(PLAN).unlink, missing_ok=True)
    run_log = RunLog(PLAN)
    logger.addHandler(run_log)
    SCREEN.begin(PLAN)
    atexit.register(run_log.write)


def end_of_failed_run(logs):
    """What is there all the same; after a Ctrl-C, how it goes on."""
    SCREEN.end()
    if not STOP.is_asked:
        say(AGAIN)
    if PLAN.experiments and not STOP.is_asked:
        print(partial_answer(PLAN, logs))
    else:
        print(*[STOPPED] * STOP.is_asked, *log_lines(logs), sep="\n")


onstart:
    start_of_run(workflow.scheduler, list(workflow.dag.needrun_jobs()))


onsuccess:
    SCREEN.end()
    print(answer(PLAN, log))


onerror:
    end_of_failed_run(log)
