# In:   the plan, and the jobs that Snakemake is about to start
# Out:  what a person sees of a run: its start, its failures, its answer; results/<study>/run_log.json
from rootstock.controller.hooks import Hooks, Module, hook_into

RULES = None if workflow.modifier.is_main_snakefile() else workflow.modifier.rules
hook_into(workflow, Hooks(PLAN, OTHER_CODE, workflow, logger, Module(MODULE, MADE, RULES)))
