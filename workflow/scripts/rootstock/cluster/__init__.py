"""A Slurm cluster out of servers with SSH: check them, configure them, start and stop it. No torch; only `ssh` and Slurm."""
