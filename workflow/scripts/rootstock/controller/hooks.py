"""What a study does when Snakemake's run starts and ends, alone or as one of several modules of a user's workflow."""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, chdir, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from snakemake.settings.types import RerunTrigger

from ..slurm.executor import prepare_run
from ..study.plan import Plan
from ..study.told import printable, told_as_lines
from .answer import AnswerAgain, answer, log_lines, make_room, partial_answer
from .checking import in_store, require_what_runs_need
from .code import Training, code_notes, remember_code, require_code_of
from .events import own_name
from .planning import begin_run, headline, to_do
from .rows import keep_rows
from .run_log import RunLog
from .screen import AGAIN, STOPPED, Stop, take_screen
from .turns import take_turn, turn_of

PROFILE = Path(__file__).parents[4] / "profiles/default"
HOOKS = ("onstart", "onsuccess", "onerror")
TRAIN = ("train_base", "train_finetune")
say = partial(print, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Module:
    """A study's part in a run: its name as a module, the patterns of its rules' wildcards, and its rules. Name and
    rules are None if the study is not a module, so that all rules are its own."""

    name: str | None
    made: dict[str, str]
    rules: set[Any] | None


class Hooks:
    """The hooks of one study in a run. `workflow`, `logger` and the jobs are Snakemake's; `other_code` holds the
    trainings whose models other code made."""

    def __init__(
        self, plan: Plan, other_code: dict[str, Training], workflow: Any, logger: logging.Logger, module: Module
    ):
        self.plan, self.other_code, self.workflow, self.logger, self.module = plan, other_code, workflow, logger, module
        self.lines = headline(plan)
        self.held = ExitStack()  # this run's turn in the folder
        others = list(known_hooks(workflow).values())
        self.stop = others[0].stop if others else Stop()
        self.screen = others[0].screen if others else take_screen(logger, workflow.output_settings, self.stop)
        logger.addHandler(
            AnswerAgain(plan, is_dry=lambda: workflow.dryrun or not self._counts(), wait=self.screen.wait)
        )
        self._at_exit(self._end_of_dry_run)

    def onstart(self, _: Any = None) -> None:
        """Show what the run is about, take its turn in this folder, prepare submission to Slurm, and show progress.
        Write the run log at the end, however the run ends."""
        jobs = self._own(self.workflow.dag.needrun_jobs())
        self._tell_plan(jobs)
        self._require_code(jobs)
        with told_as_lines():
            self._begin(jobs)
        rules = self.module.rules
        run_log = RunLog(self.plan, rules=None if rules is None else {rule.name for rule in rules})
        self.logger.addHandler(run_log)
        self.stop.hear_sigterm()
        self.screen.begin(self.plan)
        self._at_exit(run_log.write)

    def onsuccess(self, log: Sequence[str]) -> None:
        self.screen.end()
        print(answer(self.plan, log))

    def onerror(self, log: Sequence[str]) -> None:
        """Show the results that exist despite a failure; after a Ctrl-C or a SIGTERM, show how to resume."""
        self.screen.end()
        if not self.stop.is_asked:
            say(AGAIN)
        if self.plan.experiments and not self.stop.is_asked:
            print(partial_answer(self.plan, log))
        else:
            print(*[STOPPED] * self.stop.is_asked, *log_lines(log), sep="\n")

    def _at_exit(self, act: Callable[[], None]) -> None:
        """Call `act` when the process ends, in the present folder: Snakemake leaves that of --directory before."""
        folder = Path.cwd()

        def there() -> None:
            with chdir(folder):
                act()

        atexit.register(there)

    def _begin(self, jobs: list[Any]) -> None:
        run, workflow = self.plan.study.run, self.workflow
        if any(own_name(job.rule.name) in TRAIN for job in jobs):
            with_packages = not workflow.deployment_settings.deployment_method
            require_what_runs_need(self.plan, workflow.local_exec, with_packages)
        try:
            beside = {hooks.plan.study.name for hooks in known_hooks(workflow).values() if hooks is not self}
            turn = turn_of(self.plan.study.name, jobs)
            self.held.enter_context(take_turn(turn, say, run.wait_seconds, beside=beside))
        except KeyboardInterrupt:
            sys.exit(130)
        self._at_exit(self.held.close)
        begin_run(self.plan, say)
        remember_code(self.plan)
        make_room(self.plan, say)
        if prepare_run(workflow.scheduler._executor, say=say, at_once=run.at_once):
            self.held.callback(keep_rows(self.plan, self.module.name, self.module.made).unlink, missing_ok=True)

    def _counts(self) -> bool:
        """Whether these hooks are in force: a later `use rule` of the same module replaces them."""
        return known_hooks(self.workflow).get(self.module.name) is self

    def _own(self, jobs: Iterable[Any]) -> list[Any]:
        return [job for job in jobs if self.module.rules is None or job.rule in self.module.rules]

    def _tell_plan(self, jobs: list[Any]) -> None:
        """Print what the run is about, how many of its trainings the store already holds, and the jobs to do."""
        notes = [f"note: {note}" for note in (*code_notes(self.plan, self.other_code), *profile_notes(self.workflow))]
        told = in_store(self.plan, self.other_code), to_do(jobs, self.workflow.rules)
        say(*map(printable, [*self.lines, *notes]), *told, sep="\n")

    def _require_code(self, jobs: list[Any]) -> None:
        """End the run if its jobs need models of other code."""
        plan, by_rule = self.plan, {name: [] for name in (*TRAIN, "export")}
        for job in jobs:
            by_rule.setdefault(own_name(job.rule.name), []).append(job.wildcards)
        begun = [
            *(plan.bases[wildcards.hash] for wildcards in by_rule["train_base"]),
            *(plan.experiments[wildcards.prefix, wildcards.unit] for wildcards in by_rule["train_finetune"]),
        ]
        exported = [plan.exports[wildcards.export].hash for wildcards in by_rule["export"]]
        with told_as_lines():
            require_code_of(plan, self.other_code, begun, exported)

    def _end_of_dry_run(self) -> None:
        """Print what a real run prints at its start. This happens at exit, because `-n` calls no handler, and because
        Snakemake knows a dry run as one only after it has read all files."""
        dag = self.workflow.dag
        if self.workflow.dryrun and self._counts():
            jobs = self._own(dag.needrun_jobs(exclude_finished=False)) if dag else []
            self._tell_plan(jobs)
            with suppress(SystemExit):
                self._require_code(jobs)


def profile_notes(workflow: Any) -> list[str]:
    """One line if Snakemake runs without our profile's settings. It finds our profile only beside our Snakefile."""
    has_ours = workflow.execution_settings.keep_incomplete and set(workflow.rerun_triggers) == {RerunTrigger.PARAMS}
    told = "without Rootstock's settings of Snakemake a failed job may undo others, and finished ones may run again"
    return [] if has_ours else [f"{told}; give --workflow-profile {os.path.relpath(PROFILE)}"]


def hook_into(workflow: Any, hooks: Hooks) -> None:
    """Call these hooks when a run starts and ends, besides the handlers that the user's Snakefile defines anywhere.
    Snakemake ignores the handlers of modules. Each `use rule` reads its module anew, and the last reading counts."""
    known = known_hooks(workflow)
    if not known:
        for hook in HOOKS:
            _compose(workflow, hook, known)
    known[hooks.module.name] = hooks


def known_hooks(workflow: Any) -> dict[str | None, Hooks]:
    """The hooks of all studies of a run, by module."""
    return workflow.__dict__.setdefault("rootstock_hooks", {})


def _compose(workflow: Any, hook: str, known: dict[str | None, Hooks]) -> None:
    register, is_main = getattr(workflow, hook), workflow.modifier_stack[0].is_main_snakefile

    def both(theirs: Callable[[Any], Any]) -> Callable[[Any], None]:
        def call(log: Any) -> None:
            for hooks in known.values():
                getattr(hooks, hook)(log)
            theirs(log)

        return call

    def registered(theirs: Callable[[Any], Any]) -> None:
        register(both(theirs) if workflow.modifier is workflow.modifier_stack[0] and is_main() else theirs)

    setattr(workflow, f"_{hook}", both(getattr(workflow, f"_{hook}")))
    setattr(workflow, hook, registered)
