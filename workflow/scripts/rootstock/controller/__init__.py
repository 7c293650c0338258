"""Who runs it: the Snakemake process, and whoever watches one. The plan, turns of runs, what a person is shown, status. No torch."""
