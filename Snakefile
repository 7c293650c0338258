"""Rootstock from its own folder; the workflow is workflow/Snakefile, where Snakemake, snakedeploy and other workflows look for one."""


include: "workflow/Snakefile"


# What is included sets no default target.
workflow.default_target = workflow.default_target or workflow.modifier.modify_rulename("all")
