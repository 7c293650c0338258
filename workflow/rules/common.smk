# The plan, made anew in every Snakemake process (and so in every cluster job): no torch, no pandas here.
import os
import sys
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs: this very Python

from rootstock.planning import headline, plan_of_workflow
from rootstock.study import paths
from rootstock.study.identity import canonical

PLAN = plan_of_workflow(workflow.configfiles, workflow.config_settings.config)
STUDY = PLAN.study.name
STORE = PLAN.study.store
RUN = PLAN.study.run

BASE_MODELS = [paths.base_model(name) for name in PLAN.bases]
EXPERIMENTS = [paths.experiment_done(*key) for key in PLAN.experiments]
RESULTS = [paths.SUMMARY.format(study=STUDY)] if PLAN.experiments else []
TABLES = [paths.TABLE.format(study=STUDY)] if PLAN.experiments else []
PLAN_LINES = headline(PLAN)


wildcard_constraints:
    hash="[0-9a-f]{16}",
    name="[A-Za-z0-9._-]+",
    prefix="[A-Za-z0-9._-]+",
    unit="[A-Za-z0-9._-]+",


def prepared_for(training):
    """The marker of what a training's data is prepared from; a user's own folder has none."""
    return ancient(paths.prepared_done(training.artefact.name)) if training.artefact else []
