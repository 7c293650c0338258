"""Rootstock: base models trained once, fine-tunes on top of them, results at the end.

In:   a study (config/config.yaml, or --configfile F, or --config jobs=F.json)
Out:  base_models/<hash>.pt, experiments/<prefix>/<unit>/, results/<study>/
"""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/code.smk"
include: "workflow/rules/common.smk"


rule all:
    input:
        bases=BASE_MODELS,
        experiments=EXPERIMENTS,
        results=RESULTS,
        exports=EXPORTS,
    """Everything that the study asks for."""
    localrule: True


include: "workflow/rules/prepare.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/export.smk"


if workflow.is_main_process:

    include: "workflow/rules/run.smk"
