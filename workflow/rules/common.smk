# The plan, made by the Snakemake process of a run; those in cluster jobs read their own rows of it. No torch, no pandas here.
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

# What a rule passes on as resources (run, store, study) is how it runs; a change there reruns nothing.
MODULE = workflow.modifier.namespace
PLAN = None if workflow.is_main_process else kept_rows(MODULE)
MADE = PLAN.made if PLAN else None
PLAN = PLAN or planned(workflow, config)
MADE = MADE or wildcards_made(PLAN, MODULE, workflow)
STUDY = PLAN.study.name
STORE = PLAN.study.store
RUN = PLAN.study.run

# A base model that experiments start from is made for them; only one that stands alone is wanted for itself.
BASE_MODELS = [paths.base_model(name) for name in PLAN.lone_bases]
EXPERIMENTS = [paths.experiment_done(*key) for key in PLAN.experiments]
RESULTS = [paths.SUMMARY.format(study=STUDY), *([paths.PAGE.format(study=STUDY)] if PLAN.experiments else [])]
EXPORTS = [paths.EXPORT_DONE.format(export=folder) for folder in PLAN.exports]

# So many fine-tunes of one Slurm job run at a time: its profile says 1, the study knows better.
if workflow.is_main_process and "at_once" in workflow.global_resources:
    workflow.global_resources["at_once"] = RUN.at_once

# This reads the metadata of every model, so jobs do not ask.
OTHER_CODE = of_other_code(PLAN) if workflow.is_main_process else {}


wildcard_constraints:
    **MADE,


def told_of_figure(name):
    """Title and caption of a figure of the page, for Snakemake's report; read when that is made."""
    told = json.loads(Path(paths.PAGE_FIGURES.format(study=STUDY), "figures.json").read_text(encoding="utf-8"))
    return {"figure": told[name]["title"], "what it shows": told[name]["caption"]}


def more_each_time(mem_mb, attempt):
    """What is asked for is bounded from above; half of it more at each attempt is for where it was not, and still fits a node."""
    return mem_mb * (attempt + 1) // 2


def prepared_for(training):
    """The marker of what a training's data is prepared from; a user's own folder has none."""
    return paths.prepared_done(training.prepared) if training.prepared else []


def published(base_hash):
    """A base model as an input; a newer file of the same name changes nothing."""
    return ancient(paths.base_model(base_hash)) if base_hash else []


def vouched(*base_hashes):
    """The metadata of base models, as an input beside them. It is small, so Snakemake compares its content and not its
    time; and it is not `ancient`: Snakemake silently leaves out what depends on an unfinished job by ancient files alone.
    """
    return [paths.BASE_METADATA.format(hash=name) for name in base_hashes if name]


def own_class(base_hash):
    """The class of the user's own that the network of a base model has, as this study names it: no file's word is enough."""
    return (base_hash and PLAN.bases[base_hash].own_class) or ""


def tuned_together(wildcards):
    """The group of a fine-tune: those of one base share a cluster job, as many as the profile says of `finetunes`. One that waits for
    another base would hold them back, or keep them from running at all. Those of several processes stay alone.
    """
    if RUN.processes_in_all > 1:
        return None
    group = f"finetunes_{PLAN.experiments[wildcards.prefix, wildcards.unit].base}"
    workflow.parent_groupids[group] = "finetunes"  # as Snakemake does for a group whose name has wildcards
    return group


def data_of(training, output):
    """What a training's data is prepared from. Called while the graph of jobs is built: what is to be trained anew is then forced
    there, as by --forcerun. A parameter would be recorded, and the next run would differ from it.
    """
    if PLAN.study.retrain and training.hash in OTHER_CODE:
        workflow.dag.forcefiles.add(output)
    return prepared_for(training)
