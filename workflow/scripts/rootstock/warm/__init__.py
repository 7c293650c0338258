"""The warm process, which has torch loaded and forks one for each job, and the client that a job's command is. Read `client` first."""
