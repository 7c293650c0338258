"""From a study to a plan. Nothing here imports torch, pandas or numpy: it runs anew in every cluster job."""
