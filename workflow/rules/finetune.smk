# In:   base_models/<hash>.pt, prepared data
# Out:  experiments/<prefix>/<unit>/: best_model.pt, losses.json, config.json and, last, metrics.json


rule train_finetune:
    """Fine-tune one model on its base, or take it from the store, and publish it as an experiment."""
    input:
        base=lambda wildcards: published(PLAN.experiments[wildcards.prefix, wildcards.unit].base),
        vouched=lambda wildcards: vouched(PLAN.experiments[wildcards.prefix, wildcards.unit].base),
        data=lambda wildcards: data_of(
            PLAN.experiments[wildcards.prefix, wildcards.unit], paths.experiment_done(wildcards.prefix, wildcards.unit)
        ),
    output:
        metrics=paths.EXPERIMENT_DONE,
    log:
        paths.EXPERIMENT_LOG,
    group:
        tuned_together
    conda:
        "../envs/rootstock.yaml"
    threads: RUN.threads * RUN.world_size
    resources:
        **RUN.resources(),
        scripts=SCRIPTS,
        run=RUN.told,
        start=RUN.start,
        store=STORE,
        study=STUDY,
        retrain="retrain" if PLAN.study.retrain else "no-retrain",
        at_once=1,  # limits how many of a Slurm job run at a time; see common.smk and profiles/slurm
        mem_mb=lambda wildcards, attempt: more_each_time(
            PLAN.experiments[wildcards.prefix, wildcards.unit].mem_mb, attempt
        ),
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.experiments[wildcards.prefix, wildcards.unit].json,
        data=lambda wildcards: PLAN.experiments[wildcards.prefix, wildcards.unit].data,
        expect=lambda wildcards: PLAN.experiments[wildcards.prefix, wildcards.unit].expect,
        own_class=lambda wildcards: own_class(PLAN.experiments[wildcards.prefix, wildcards.unit].base),
        folder=subpath(output.metrics, parent=True),
    shell:
        "python {resources.scripts:q}/train_finetune.py"
        " --spec {params.spec:q}"
        " --base {input.base:q}"
        " --own_class {params.own_class:q}"
        " --data_path {params.data:q}"
        " --expect {params.expect:q}"
        " --store {resources.store:q}"
        " --run {resources.run:q}"
        " --{resources.retrain}"
        " --{resources.start}"
        " --asked_by {resources.study:q}"
        " --output {params.folder:q}"
        " > {log:q} 2>&1"
