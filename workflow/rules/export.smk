# In:   a base model or an experiment that the study exports
# Out:  a folder in the format of other software, complete when its export.json exists


rule export:
    """Write one trained model from the store in the format of other software."""
    input:
        model=lambda wildcards: PLAN.exports[wildcards.export].published,
    output:
        done=paths.EXPORT_DONE,
    log:
        paths.EXPORT_LOG,
    conda:
        "../envs/rootstock.yaml"
    threads: 1
    resources:
        scripts=SCRIPTS,
        gpu=0,
        store=STORE,
        task=PLAN.study.task_name,
        mem_mb=lambda wildcards, attempt: more_each_time(PLAN.exports[wildcards.export].mem_mb, attempt),
        runtime=30,
    params:
        hash=lambda wildcards: PLAN.exports[wildcards.export].hash,
        data=lambda wildcards: PLAN.exports[wildcards.export].data,
        study=PLAN.study_file,
    shell:
        "python {resources.scripts:q}/export_model.py"
        " --hash {params.hash}"
        " --store {resources.store:q}"
        " --task {resources.task:q}"
        " --data_path {params.data:q}"
        " --study {params.study:q}"
        " --output {wildcards.export:q}"
        " > {log:q} 2>&1"
