"""What the Snakemake process and its watchers run: the plan, the turns of runs, the screen, status, pages. No torch."""
