# In:   a data set that is built in
# Out:  prepared/<name>/, complete when its manifest exists


rule prepare:
    """Prepare what a task makes once and every training shares."""
    output:
        manifest=paths.PREPARED_DONE,
    log:
        paths.PREPARED_LOG,
    conda:
        "../envs/rootstock.yaml"
    threads: 1
    resources:
        task=PLAN.study.task,
        gpu=0,
        mem_mb=2000,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: canonical(PLAN.artefacts[wildcards.name].spec),
    shell:
        "python workflow/scripts/prepare_data.py"
        " --task {resources.task}"
        " --spec {params.spec:q}"
        " --output prepared/{wildcards.name}"
        " > {log:q} 2>&1"
