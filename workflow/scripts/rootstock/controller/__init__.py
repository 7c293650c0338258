"""Who runs it: the Snakemake process, and whoever watches one. The plan of the workflow, time left, run log, status. No torch."""
