# In:   trainings that are here, made by other model code than is here now
# Out:  a file that is there while these are trained anew


rule retrain:
    """Stand before each training that is made anew, so that Snakemake runs it although its output is there."""
    output:
        temp(touch(RETRAIN)),
