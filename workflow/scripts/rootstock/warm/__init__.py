"""The warm process, which has torch loaded and forks a process for each job, and its client, a job's command. Start with `client`."""
