# In:   built-in data, text of the user, or other prepared data
# Out:  prepared/<name>/, complete when its manifest exists


rule prepare:
    """Prepare what a task makes once and every training shares."""
    input:
        needs=lambda wildcards: [paths.prepared_done(name) for name in PLAN.artefacts[wildcards.name].need_names],
    output:
        manifest=paths.PREPARED_DONE,
    log:
        paths.PREPARED_LOG,
    conda:
        "../envs/rootstock.yaml"
    # Eight threads in place of a GPU; locally Snakemake lowers them to the cores that it has.
    threads: lambda wildcards: max(RUN.threads, 8 if PLAN.artefacts[wildcards.name].on_gpu and not RUN.gpus_asked else 1)
    resources:
        scripts=SCRIPTS,
        gpu=lambda wildcards: int(PLAN.artefacts[wildcards.name].on_gpu and RUN.gpus_asked != 0),
        task=PLAN.study.task_name,
        run=RUN.told,
        start=RUN.start,
        folder=lambda wildcards: paths.prepared(wildcards.name),
        mem_mb=lambda wildcards, attempt: attempt * (16000 if PLAN.artefacts[wildcards.name].on_gpu else 2000),
        runtime=lambda wildcards, attempt: attempt * (240 if PLAN.artefacts[wildcards.name].on_gpu else 30),
    params:
        spec=lambda wildcards: PLAN.artefacts[wildcards.name].json,
    shell:
        "python {resources.scripts:q}/prepare_data.py"
        " --task {resources.task:q}"
        " --spec {params.spec:q}"
        " --run {resources.run:q}"
        " --threads {threads}"
        " --{resources.start}"
        " --output {resources.folder:q}"
        " > {log:q} 2>&1"
