"""Changes to Snakemake's Slurm plugin, made in the Snakemake process of a run on Slurm."""
