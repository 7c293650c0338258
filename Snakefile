"""Rootstock, run in its own folder. The workflow is workflow/Snakefile, where Snakemake and snakedeploy look."""


include: "workflow/Snakefile"


# An included file sets no default target.
workflow.default_target = workflow.default_target or workflow.modifier.modify_rulename("all")
