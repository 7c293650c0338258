# The plan. The main Snakemake process makes it; those in cluster jobs read their rows of it. No torch, no pandas here.
import json
import sys
from pathlib import Path

from rootstock.controller.code import of_other_code
from rootstock.controller.modules import wildcards_made
from rootstock.controller.planning import collect_garbage_rarely, planned, put_this_python_first
from rootstock.controller.rows import kept_rows
from rootstock.slurm.executor import share_warm_process
from rootstock.study import paths
from rootstock.study.identity import short_digest

put_this_python_first()
collect_garbage_rarely()
share_warm_process(sys.argv)

# Rules pass on as resources (run, store, study) how they run, so that a change there reruns nothing.
MODULE = workflow.modifier.namespace
PLAN = None if workflow.is_main_process else kept_rows(MODULE)
MADE = PLAN.made if PLAN else None
PLAN = PLAN or planned(workflow, config)
MADE = MADE or wildcards_made(PLAN, MODULE, workflow)
STUDY = PLAN.study.name
STORE = PLAN.study.store
RUN = PLAN.study.run

# Experiments have their base models made; only a base model without experiments is a target itself.
BASE_MODELS = [paths.base_model(name) for name in PLAN.lone_bases]
EXPERIMENTS = [paths.experiment_done(*key) for key in PLAN.experiments]
RESULTS = [paths.SUMMARY.format(study=STUDY), *([paths.PAGE.format(study=STUDY)] if PLAN.experiments else [])]
EXPORTS = [paths.EXPORT_DONE.format(export=folder) for folder in PLAN.exports]

# How many fine-tunes of one Slurm job run at a time: the profile says 1, and the study overrides it.
if workflow.is_main_process and "at_once" in workflow.global_resources:
    workflow.global_resources["at_once"] = RUN.at_once

# This reads the metadata of every model, so jobs skip it.
OTHER_CODE = of_other_code(PLAN) if workflow.is_main_process else {}


wildcard_constraints:
    **MADE,


def told_of_figure(name):
    """Title and caption of a figure of the page, for Snakemake's report; read when the report is made."""
    told = json.loads(Path(paths.PAGE_FIGURES.format(study=STUDY), "figures.json").read_text(encoding="utf-8"))
    return {"figure": told[name]["title"], "what it shows": told[name]["caption"]}


def more_each_time(mem_mb, attempt):
    """Ask for half of `mem_mb` more at each attempt. `mem_mb` is meant as an upper bound; if it is too low, half more
    still fits a node."""
    return mem_mb * (attempt + 1) // 2


def prepared_for(training):
    """The marker of a training's prepared data, as an input; a user's own folder has none."""
    return paths.prepared_done(training.prepared) if training.prepared else []


def published(base_hash):
    """A base model as an input; a newer file of the same name reruns nothing."""
    return ancient(paths.base_model(base_hash)) if base_hash else []


def vouched(*base_hashes):
    """The metadata of base models, as an input beside them. It is small, so Snakemake compares its content and not its
    time. It is not `ancient`, because Snakemake silently skips a job that depends on an unfinished one only by ancient
    files.
    """
    return [paths.BASE_METADATA.format(hash=name) for name in base_hashes if name]


def own_class(base_hash):
    """The user's own class of a base model's network, if any. The study names it; a name in a file is not trusted."""
    return (base_hash and PLAN.bases[base_hash].own_class) or ""


def tuned_together(wildcards):
    """The group of a fine-tune. Fine-tunes of one base share a cluster job, as many as the profile allows `finetunes`.

    One that waits for another base would delay them, or keep them from running at all. A fine-tune of several
    processes has a job of its own.
    """
    if RUN.processes_in_all > 1:
        return None
    group = f"finetunes_{PLAN.experiments[wildcards.prefix, wildcards.unit].base}"
    workflow.parent_groupids[group] = "finetunes"  # as Snakemake does for a group whose name has wildcards
    return group


def data_of(training, output):
    """The marker of a training's prepared data, as an input. Trainings to repeat are forced here, as by --forcerun.

    Snakemake calls this while it builds the graph of jobs. It would record a parameter instead, from which the next run
    would differ.
    """
    if PLAN.study.retrain and training.hash in OTHER_CODE:
        workflow.dag.forcefiles.add(output)
    return prepared_for(training)
