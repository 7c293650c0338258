# The plan, made anew in every Snakemake process (and so in every cluster job): no torch, no pandas here.
import atexit
import re
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from rootstock.controller.planning import begin_run, headline, plan_of_workflow, put_this_python_first
from rootstock.controller.run_log import RunLog
from rootstock.controller.time_left import TimeLeft
from rootstock.slurm.executor import prepare_run
from rootstock.study import paths
from rootstock.study.identity import canonical, short_digest
from rootstock.study.told import printable, told_as_lines

put_this_python_first()

# What a rule passes on as resources (run, store, study) is how it runs; a change there reruns nothing.
PLAN = plan_of_workflow(workflow.configfiles, workflow.config_settings.config)
STUDY = PLAN.study.name
STORE = PLAN.study.store
RUN = PLAN.study.run

# A base model that experiments start from is made for them; only one that stands alone is wanted for itself.
BASE_MODELS = [paths.base_model(name) for name in PLAN.lone_bases]
EXPERIMENTS = [paths.experiment_done(*key) for key in PLAN.experiments]
RESULTS = [paths.SUMMARY.format(study=STUDY)] if PLAN.experiments else []
EXPORTS = [paths.EXPORT_DONE.format(export=folder) for folder in PLAN.exports]
TABLES = [Path(paths.TABLE.format(study=STUDY))] if PLAN.experiments else []
PLAN_LINES = headline(PLAN)


localrules:
    all,
    bases,
    summarise,


wildcard_constraints:
    hash="[0-9a-f]{16}",
    name="[A-Za-z0-9._-]+",
    prefix="[A-Za-z0-9._-]+",
    unit="[A-Za-z0-9._-]+",
    export="|".join(map(re.escape, PLAN.exports)) or "(?!)",


def prepared_for(training):
    """The marker of what a training's data is prepared from; a user's own folder has none."""
    return paths.prepared_done(training.artefact.name) if training.artefact else []


def published(base_hash):
    """A base model as an input; a newer file of the same name changes nothing."""
    return ancient(paths.base_model(base_hash)) if base_hash else []


def vouched(*base_hashes):
    """The metadata of base models, as an input beside them. It is small, so Snakemake compares its content and not its
    time; and it is not `ancient`: Snakemake silently leaves out what depends on an unfinished job by ancient files alone.
    """
    return [paths.BASE_METADATA.format(hash=name) for name in base_hashes if name]


def start_of_run(scheduler):
    """What the run is about, how its jobs are submitted on Slurm, its progress, and its log at the end, however it ends."""
    print(*map(printable, PLAN_LINES), sep="\n", file=sys.stderr)
    with told_as_lines():
        begin_run(PLAN)
        prepare_run(scheduler._executor, say=partial(print, file=sys.stderr))
    run_log = RunLog(PLAN)
    logger.addHandler(TimeLeft(sys.stderr))
    logger.addHandler(run_log)
    atexit.register(run_log.write)
