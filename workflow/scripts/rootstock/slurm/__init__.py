"""What is changed of Snakemake's Slurm plugin, in the Snakemake process of a run on Slurm."""
