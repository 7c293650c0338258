"""Make a Slurm cluster of servers with SSH: check, configure, start and stop it. Needs `ssh` and Slurm; no torch."""
