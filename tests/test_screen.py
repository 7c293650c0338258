"""What a run shows while it goes on: a line that tells how far it is, failures in a line each, and the same numbers as status.py."""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import made_results
import pexpect
import pytest
import torch
from conftest import ROOT, Project, plan, write_people
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from rootstock.controller import live_line
from rootstock.controller.answer import answer
from rootstock.controller.counting import HANDED_BACK, Count
from rootstock.controller.going import Going
from rootstock.controller.live_line import LiveLine, Tenths
from rootstock.controller.planning import content_of_workflow, headline, plan_content
from rootstock.controller.screen import LOG_FILE, SCREEN, STOPPED, STOPPING, NoScreen, Stop, take_screen
from rootstock.controller.status import JobStatus, counted, study_status
from rootstock.controller.study_page import answer_of, in_lines
from rootstock.controller.telling import FAILURES, LISTED
from rootstock.controller.turns import Turn, take_turn
from rootstock.store.lock import hold
from rootstock.study import paths

STUDY = {
    "participants": ["ann", "bob", "cleo"],
    "data": {"path": "data/tiny"},
    "base": {"model": "test", "max_epochs": 1},
    "finetune": {"mode": ["base_only", "target_only_fine_tuning"], "target_data_pct": 0.5},
}
LINES = 60  # of a run at the most
QUIET = {"verbose": False, "printshellcmds": False, "debug_dag": False, "show_failed_logs": False, "dryrun": False}

ABOUT = {
    "reason": "",
    "rule_msg": None,
    "aux": {},
    "input": [],
    "conda_env": None,
    "shellcmd": "python …" * 100,
    "indent": False,
}
ABOUT |= {"is_checkpoint": False, "benchmark": None, "priority": 0, "threads": 1, "resources": {}}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_people(tmp_path / "data/tiny")
    return tmp_path


class Run:
    """The logger of a run, its screen, and its log file."""

    def __init__(self, planned=None, quiet=(), stream=None, **settings):
        self.stream, self.plan = stream or StringIO(), planned or plan(**STUDY)
        self.logger, self.stop = logging.Logger("a run", logging.INFO), Stop()
        settings = SimpleNamespace(**QUIET | settings)
        for handler in (ColorizingTextHandler(stream=self.stream), logging.Handler()):
            handler.setFormatter(DefaultFormatter(quiet))
            handler.addFilter(
                DefaultFilter(set(quiet), False, settings.verbose, settings.dryrun, settings.printshellcmds)
            )
            self.logger.addHandler(handler)
        first, self.file = self.logger.handlers
        first.name, self.file.name, self.file.emit = SCREEN, LOG_FILE, lambda record: None
        self.screen = take_screen(self.logger, settings, self.stop)

    def begin(self) -> "Run":
        self.screen.begin(self.plan)
        return self

    def say(self, event: LogEvent | None = None, msg: str | None = None, level=logging.INFO, **about) -> None:
        self.logger.handle(logging.makeLogRecord({"msg": msg, "event": event, "levelno": level, **about}))

    def job(self, number: int, event: LogEvent = LogEvent.JOB_INFO, **more) -> None:
        """The number-th training of the plan begins, or fails."""
        job = self.plan_jobs[number]
        names = ("hash",) if job.phase == "base" else ("prefix", "unit")
        about = {"wildcards": dict(zip(names, job.name.split("/"), strict=True)), "output": [published(job)]}
        about |= {"rule_name": f"train_{job.phase}", "jobid": number, "log": [str(job.log)], "local": True} | ABOUT
        self.say(event, f"job {number}", logging.ERROR if event == LogEvent.JOB_ERROR else logging.INFO, **about | more)

    def fail(self, number: int, **more) -> None:
        self.job(number, **more)
        self.job(number, LogEvent.JOB_ERROR, **more)

    def finish(self, number: int) -> None:
        self.say(LogEvent.JOB_FINISHED, job_id=number)

    def progress(self, done: int, total: int) -> None:
        self.say(LogEvent.PROGRESS, done=done, total=total)

    @property
    def going(self) -> Going:
        self.screen.wait()
        return self.screen.teller.going

    @property
    def progress_shown(self) -> LiveLine | Tenths:
        self.screen.wait()
        return self.screen.teller.progress

    @property
    def plan_jobs(self) -> list[JobStatus]:
        return study_status(self.plan)

    @property
    def shown(self) -> list[str]:
        self.screen.wait()
        return self.stream.getvalue().splitlines()

    def end(self) -> list[str]:
        self.screen.end()
        self.screen.close()
        return self.shown


def published(job: JobStatus) -> str:
    """The file that says that a training is there."""
    return paths.base_model(job.name) if job.phase == "base" else paths.experiment_done(*job.name.split("/"))


def publish(job: JobStatus) -> None:
    file = Path(published(job))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def record(planned, number: int, **content) -> None:
    """What the number-th training of a plan recorded of itself."""
    file = list(study_status(planned))[number].record_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_the_time_left_is_told_by_what_each_kind_took_and_by_the_places_that_are_busy():
    count = Count()
    for number in range(4):
        count.note(f"base{number}", "base", "waiting")
        count.note(f"tune{number}", "finetune", HANDED_BACK if number == 3 else "waiting")
    assert count.told() == "8 waiting" and count.seconds_left() is None
    for number in range(2):
        count.note(f"base{number}", "base", "running", since=0)
    assert count.seconds_left(now=0) is None  # nothing has ended
    count.note("base0", "base", "done")
    count.took("base", 100)
    assert count.seconds_left(now=40) is None  # nothing is known of fine-tunes
    count.took("finetune", 10)
    assert count.told() == "1 done, 1 running, 6 waiting"
    assert count.seconds_left(now=40) == (60 + 2 * 100 + 3 * 10) / 2  # two places, though one is between two trainings
    for number in range(1, 4):
        count.note(f"base{number}", "base", "done")
        count.note(f"tune{number}", "finetune", "failed")
    count.note("tune0", "finetune", "running", since=40)
    assert count.seconds_left(now=44) == 6 and count.told_left().startswith("about ")
    count.end()
    assert count.told() == "4 done, 3 failed, 1 interrupted" and count.told_left() == ""


def test_the_screen_and_status_tell_the_same_numbers(here):
    planned = plan(**STUDY)
    jobs = study_status(planned)
    record(planned, 0, started=1.0, ended=2.0, returncode=1)  # failed in an earlier run, and is tried again
    publish(jobs[1])  # in an earlier run
    record(planned, 1, started=1.0, ended=9.0, returncode=0, trains=True)
    outputs = frozenset(map(published, jobs))
    turn, soon = Turn("t", outputs, frozenset()), time.time() + 1
    with take_turn(turn, print), hold(jobs[0].lock, say=print), hold(jobs[6].lock, say=print):
        run = Run(planned).begin()
        run.job(0)
        record(planned, 0, started=soon)
        for number, seconds, trains in ((3, 4, True), (5, 0.01, False)):  # the second is handed back
            run.job(number)
            record(planned, number, started=soon, ended=soon + seconds, returncode=0, trains=trains)
            publish(jobs[number])
            run.finish(number)
        run.job(4)
        record(planned, 4, started=soon, ended=soon + 2, returncode=1)
        run.job(4, LogEvent.JOB_ERROR)
        run.job(6)
        record(planned, 6, started=soon)
        count, status = run.going.count, counted(study_status(planned))
        assert status.told() == count.told() == "3 done, 1 failed, 2 running, 3 waiting"
        left = (2 * 8 + 3 * 4) / 2  # two bases and three fine-tunes, on two places
        assert status.seconds_left(soon) == pytest.approx(left) and count.seconds_left(soon) == pytest.approx(
            left, abs=2
        )
        run.end()


def test_a_job_of_a_cluster_waits_until_its_record_says_that_it_runs(here):
    run = Run().begin()
    run.job(0, local=False), run.job(1, local=False)
    run.screen.wait()
    assert run.going.count.told() == "2 waiting, 7 not begun" and not run.going.running
    record(run.plan, 0, started=time.time())
    record(run.plan, 1, started=time.time() - 60)  # an earlier attempt, that was killed
    run.going._looked = 0
    run.going.look()
    assert run.going.count.told() == "1 running, 1 waiting, 7 not begun" and list(run.going.running) == [0]
    run.end()


def test_a_record_is_of_this_run_or_says_nothing_of_it_and_clocks_may_lie_apart(here):
    run = Run().begin()
    for number in (0, 1, 2):
        run.job(number, local=number == 0)
    run.screen.wait()
    old = {"started": time.time() - 60, "returncode": 1, "stderr": "of yesterday"}
    record(run.plan, 0, ended=time.time() - 50, **old)
    record(run.plan, 1, started=time.time() - 2)  # a node whose clock is late
    record(run.plan, 2, **old)
    run.going._looked = 0
    run.going.look()
    assert sorted(run.going.running) == [0, 1]
    run.job(0, LogEvent.JOB_ERROR)
    assert run.shown == [
        f"failed: train_base {published(run.plan_jobs[0])}: its log is empty; log: {run.plan_jobs[0].log}"
    ]
    run.end()


def test_a_failure_is_a_line_on_the_screen_and_whole_in_the_log_file(here):
    run = Run().begin()
    run.job(0)
    record(
        run.plan,
        0,
        started=time.time() + 1,
        ended=time.time() + 2,
        returncode=1,
        stderr="one\n[red]X[/] holds\x1b[2J NaN",
    )
    base = run.plan_jobs[0]
    base.log.parent.mkdir(parents=True)
    base.log.write_text("".join(f"line {number}\n" for number in range(50)))
    whole = []
    run.file.emit = lambda record: whole.append(run.file.format(record))
    for _ in range(2):  # a second attempt that fails as the first did is not told again
        run.job(0, LogEvent.JOB_ERROR)
    command = "RuleException:\nCalledProcessError in file …:\nCommand '…' returned non-zero exit status 1."
    run.say(LogEvent.ERROR, command, logging.ERROR)
    run.say(LogEvent.ERROR, "the disk\x1b[2J is full", logging.ERROR)
    run.fail(
        1,
        rule_msg="Slurm says \x1b[2JTIMEOUT. For further error details see …",
        aux={"external_jobid": 12},
    )
    run.say(LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    assert run.shown == [
        f"failed: train_base {published(base)}: [red]X[/] holds?[2J NaN; log: {base.log}",
        "the disk?[2J is full",
        f"failed: train_base {published(run.plan_jobs[1])}, external_jobid 12: Slurm says ?[2JTIMEOUT.; log: {run.plan_jobs[1].log}",
    ]
    assert "line 3\n" in whole[0] and "python …" in whole[0] and whole[2] == command
    assert run.end()[-1] == "  0% of all jobs, trainings: 2 failed, 7 not begun in 0:00"


def test_of_very_many_failures_some_are_told(here):
    names = [f"p{number:02}" for number in range(FAILURES + 5)]
    write_people(here / "data/many", names, n=3)
    study = {"participants": names, "data": {"path": "data/many"}, "finetune": {"mode": "target_only"}}
    run = Run(plan(**STUDY | study)).begin()
    for number in range(len(names)):
        run.fail(number)
    assert len(run.shown) == FAILURES + 1 and "more jobs failed" in run.shown[-1]
    run.end()


def test_of_a_slurm_job_of_several_only_those_that_failed_are_told(here):
    run = Run().begin()
    publish(run.plan_jobs[3])
    for number in (3, 4):
        run.job(number, local=False)
    run.say(LogEvent.GROUP_ERROR, "Error in group", logging.ERROR, aux_logs=[])
    for number in (3, 4):
        run.job(number, LogEvent.JOB_ERROR)
    assert len(run.shown) == 1 and published(run.plan_jobs[4]) in run.shown[0]
    assert run.going.count.told() == "1 done, 1 failed, 7 not begun"
    run.end()


def test_a_run_that_was_stopped_has_no_failures(here):
    run = Run().begin()
    run.job(0)
    run.say(msg=f"{STOPPING}, this might take some time.")
    run.job(0, LogEvent.JOB_ERROR)
    run.say(LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    run.say(msg="--keep-incomplete mode is set, so …", level=logging.WARNING)
    assert run.stop.is_asked and len(run.shown) == 1 and run.shown[0].startswith(STOPPING)
    assert run.end()[-1] == "  0% of all jobs, trainings: 1 interrupted, 8 not begun in 0:00"


def test_on_no_terminal_there_is_a_line_each_tenth_of_the_way(here):
    run = Run().begin()
    chatter = ["Select jobs to execute...", "Job 3 has been submitted with SLURM jobid 7"]
    run.say(LogEvent.WORKFLOW_STARTED)
    for number in range(9):
        run.job(number)
        run.say(LogEvent.SHELLCMD, "python …")
        run.finish(number)
        run.progress(number + 1, 45)
        for words in chatter:
            run.say(msg=words)
    run.job(0)
    lines = run.shown
    assert [line.split()[0] for line in lines] == ["11%", "20%"] and "5 done, 1 running, 3 not begun" in lines[0]
    run.progress(45, 45)
    assert run.end()[2:] == ["100% of all jobs, trainings: 8 done, 1 interrupted in 0:00"]


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_the_live_line_is_one_line_that_fits(here, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(live_line, "DRAW_SECONDS", (0, 0))
    run = Run(stream=Terminal()).begin()
    for number in range(9):
        run.job(number)
    run.progress(3, 12)
    run.end()
    drawn = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in re.split(r"\r\x1b\[2K|\n", run.stream.getvalue())]
    assert len(drawn) > 2 and max(map(len, drawn)) < width and run.stream.getvalue().count("\n") == 1
    assert ("━" in drawn[0]) == (width >= 60)
    assert width < 300 or any("9 running: base " in line and "and 7 more" in line for line in drawn)
    assert "\x1b[?25l" not in run.stream.getvalue()  # a killed run would leave the terminal without its cursor


def test_a_terminal_that_is_dumb_has_lines_and_one_without_colours_none_of_them(here, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    run = Run(stream=Terminal()).begin()
    assert isinstance(run.progress_shown, Tenths)
    run.end()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    run = Run(stream=Terminal()).begin()
    run.progress(1, 2)
    run.job(0, LogEvent.JOB_ERROR)
    assert isinstance(run.progress_shown, LiveLine)
    run.end()
    assert not re.search(r"\x1b\[[0-9;]*[34]\d", run.stream.getvalue())


def test_quiet_shows_no_line_and_more_words_are_snakemakes_own(here):
    run = Run(quiet=[Quietness.PROGRESS, Quietness.RULES]).begin()
    run.job(0)
    run.progress(1, 2)
    run.job(0, LogEvent.JOB_ERROR)
    assert run.end() == []
    for flag in QUIET.keys() - {"dryrun"}:
        run = Run(**{flag: True}).begin()
        run.say(msg="Select jobs to execute...")
        run.progress(1, 2)
        run.say(msg="Job 3 has been submitted")
        run.fail(0)
        shown = "\n".join(run.end())
        assert "Job 3 has been submitted" in shown and "Error in rule train_base" in shown, flag
        assert "failed: " not in shown and "1 of 2 steps" in shown and "50% of all jobs, trainings: 1 failed" in shown


def test_a_dry_run_lists_a_few_jobs_of_each_kind_and_why_they_run_again(here):
    names = [f"p{number:02}" for number in range(LISTED + 3)]
    write_people(here / "data/many", names, n=3)
    study = {"participants": names, "data": {"path": "data/many"}, "finetune": {"mode": "target_only"}}
    run = Run(plan(**STUDY | study), dryrun=True)
    run.say(LogEvent.WORKFLOW_STARTED)
    run.say(LogEvent.RUN_INFO, "Job stats:")
    for number in range(len(names) - 1):
        run.job(number, reason="Missing output files: in")
    run.job(len(names) - 1, reason="Params have changed since last execution: before: {} now: {}")
    run.say(msg="Reasons:\n    (check individual jobs above for details)")
    run.say(msg="This was a dry-run (flag -n).")
    shown = run.end()
    assert len(shown) == LISTED + 2 and shown[0] == f"train_finetune {published(run.plan_jobs[0])}"
    assert shown[LISTED] == "  and 2 more; -p lists them all" and shown[-1].endswith(
        "metrics.json (its settings changed)"
    )


def test_what_is_wrong_with_the_screen_stops_no_run(here, monkeypatch):
    run = Run().begin()
    run.job(0)
    run.screen.wait()
    monkeypatch.setattr(run.going, "fail", lambda *_: 1 / 0)
    run.job(0, LogEvent.JOB_ERROR)
    run.say(msg="Select jobs to execute...")
    shown = run.end()
    assert "broke (ZeroDivisionError: division by zero)" in shown[0]
    assert "Error in rule train_base:" in shown and shown[-1] == "Select jobs to execute..."
    run = Run(stream=Gone()).begin()  # as after `| head`
    run.job(0, LogEvent.JOB_ERROR)
    run.say(msg="the disk is full", level=logging.ERROR)
    run.screen.end()
    assert run.screen._thread.is_alive()
    run.screen.close()
    assert not run.screen._thread.is_alive()


def test_a_terminal_that_does_not_go_on_holds_up_nothing(here):
    run = Run(stream=(stream := Waiting()))
    for number in range(9):
        run.job(number, LogEvent.JOB_ERROR)  # returns though nothing is written
    assert stream.asked.wait(30) and not stream.getvalue()
    stream.goes_on.set()
    assert len(run.end()) == 9


def test_the_default_study_fits_on_a_screen_with_the_sentences_of_its_page(here):
    planned = plan_content(content_of_workflow([str(ROOT / "config/config.yaml")], None))
    test = {"loss": 1.0, "accuracy": 0.875, "f1": 0.875, "n": 28}
    made_results.publish(planned, lambda one: {"test": test, "base_test": test, "base_all": test | {"n": 181}})
    shares = (0.1, 0.25, 0.5, 1.0)
    learned = [("others", None, "all"), ("others", None, "test")]
    learned += [(on, share, "test") for on in ("others + target", "target only") for share in shares]
    about = {"others": 9, "accuracy": 0.5, "f1": 0.5, "n": 28}
    baselines = [
        about
        | {"method": method, "learned_on": on, "target_data_pct": share, "measured_on": part, "target": one.target}
        for method in ("extra_trees", "svc")
        for on, share, part in learned
        for one in {experiment.spec.target: experiment.spec for experiment in planned.experiments.values()}.values()
    ]
    material = made_results.material_of(planned, baselines)
    results = Path("results/smartwatch")
    results.mkdir(parents=True)
    (results / "table.txt").write_text(planned.study.task.reporter().render(material.summary, baselines))
    (results / "report.html").touch()
    sentences = answer_of(material, is_partial=False)
    (results / "answer.txt").write_text(in_lines(sentences))
    screen = Run(planned).begin()
    for number in range(141):
        screen.progress(number, 140)
    told = [*headline(planned), "in the store", "to do", *screen.end(), *answer(planned, ["a.log"]).splitlines()]
    assert len(told) + 10 <= 50, "\n".join(told)
    above = " ".join(told[: told.index("results: results/smartwatch/: summary.csv, table.txt, figure.svg")])
    assert len(sentences) == 2 and " ".join(above.split()).endswith(" ".join(sentences))


def test_another_logger_of_the_users_choice_is_left_alone():
    logger = logging.Logger("a run")
    logger.addHandler(theirs := logging.StreamHandler())
    assert isinstance(take_screen(logger, SimpleNamespace(**QUIET), stop := Stop()), NoScreen)
    assert logger.handlers == [theirs, stop]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Gone(StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class Waiting(StringIO):
    """A terminal after Ctrl-S."""

    def __init__(self):
        super().__init__()
        self.asked, self.goes_on = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        self.goes_on.wait(30)
        return super().write(text)


def drawn_last(output: str) -> list[str]:
    """The lines that stand on a terminal at the end: each as it was drawn last, without colours."""
    lines = output.replace("\r\n", "\n").split("\n")
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rpartition("\x1b[2K")[2]).rstrip() for line in lines]


def at_a_terminal(project: Project, columns: int, *flags: str) -> pexpect.spawn:
    command = ["-m", "snakemake", "--profile", "local", "--cores", "2", *flags]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    about = {"cwd": str(project.folder), "env": environment | {"TERM": "xterm"}, "dimensions": (24, columns)}
    return pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=120, **about)


def test_a_run_at_a_narrow_terminal_is_one_line_that_moves_and_a_line_for_what_failed(project, people):
    study = STUDY | {"finetune": {"mode": "target_only", "max_epochs": 1}}
    project.study("tiny", study)
    x, y = torch.load(people / "cleo_val.pt", weights_only=True)
    torch.save((x * float("nan"), y), people / "cleo_val.pt")
    run = at_a_terminal(project, 40, "--configfile", "tiny.yaml")
    run.expect(pexpect.EOF)
    run.close()
    lines = drawn_last(run.before)
    assert run.exitstatus == 1 and len(lines) < LINES
    assert "to do: 3 train_finetune, 1 summarise, 1 report" in lines and "Traceback" not in run.before
    (failed,) = [line for line in lines if line.startswith("failed: ")]
    assert "fold2_cleo" in failed and "X holds NaN" in failed and "log: logs/finetune/" in failed
    assert [line for line in lines if re.fullmatch(r"2 done, 1 failed in \d:\d\d", line)], lines
    drawn = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in re.findall(r"\x1b\[2K([^\r\n]*)", run.before)]
    moved = [line for line in drawn if not line.startswith("failed: ")]
    assert any("running" in line for line in moved) and max(map(len, moved)) < 40
    (log,) = [line.removeprefix("log: ") for line in lines if line.startswith("log: ")]
    whole = (project / log).read_text()
    assert "Error in rule train_finetune" in whole and "Job stats:" in whole and "X holds NaN" in whole


def wait_for_training(project: Project, run: pexpect.spawn) -> None:
    """Until the log of a base model says that it is being trained; what the run shows is read meanwhile."""
    deadline = time.monotonic() + 100
    while not any("training" in log.read_text() for log in project.folder.glob("logs/base/*.log")):
        assert run.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=0.1) == 0 and time.monotonic() < deadline


def test_a_sigterm_while_snakemake_holds_its_lock_is_heard_after_it():
    lock, ended = threading.Lock(), threading.Event()

    def end(*_: object) -> None:
        with lock:
            ended.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        stop = Stop()
        for _ in range(2):  # two modules
            stop.hear_sigterm()
        with lock:
            signal.raise_signal(signal.SIGTERM)
        assert ended.wait(10) and stop.is_asked
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_no_failure_and_says_how_it_resumes(project, people, number):
    project.study("long", STUDY | {"base": {"model": "test", "max_epochs": 100_000}, "folds": [0]})
    run = at_a_terminal(project, 100, "--configfile", "long.yaml")
    run.expect(r"\d running")
    wait_for_training(
        project, run
    )  # Snakemake tells of a job before it starts one, and waits for one that it starts after a Ctrl-C
    os.killpg(run.pid, number)
    run.expect(pexpect.EOF)
    run.close()
    lines = drawn_last(run.before)
    assert run.exitstatus == 1 and STOPPED in lines and not any(line.startswith("failed") for line in lines)
    assert any("interrupted" in line and "not begun" in line for line in lines) and lines[-2].startswith(
        "log: .snakemake/log/"
    )
