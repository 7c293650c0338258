"""From a study to a plan, and what a task must be.

Imports no task, torch, pandas or numpy, because every cluster job runs it again.
"""
