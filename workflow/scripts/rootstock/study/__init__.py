"""From a study to a plan, and what a task must be. Imports no task, torch, pandas or numpy: it runs anew in every cluster job."""
