# In:   prepared data
# Out:  base_models/<hash>.pt and its metadata, one for each distinct base training


rule bases:
    """Every base model and nothing else. (`--until train_base` stops after the first of several stages or budgets.)"""
    input:
        [paths.base_model(name) for name in PLAN.bases],
    localrule: True


rule train_base:
    """Train one base model, or take it from the store, and publish it under its hash."""
    input:
        parent=lambda wildcards: published(PLAN.bases[wildcards.hash].parent),
        shorter=lambda wildcards: published(PLAN.bases[wildcards.hash].continues),
        vouched=lambda wildcards: vouched(PLAN.bases[wildcards.hash].parent, PLAN.bases[wildcards.hash].continues),
        data=lambda wildcards: data_of(PLAN.bases[wildcards.hash], paths.base_model(wildcards.hash)),
    output:
        model=paths.BASE_MODEL,
        metadata=paths.BASE_METADATA,
    log:
        paths.BASE_LOG,
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
        expect=lambda wildcards: PLAN.bases[wildcards.hash].expect,
        continues=lambda wildcards: PLAN.bases[wildcards.hash].continues or "",
        mem_mb=lambda wildcards, attempt: more_each_time(PLAN.bases[wildcards.hash].mem_mb, attempt),
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        spec=lambda wildcards: PLAN.bases[wildcards.hash].json,
        data=lambda wildcards: PLAN.bases[wildcards.hash].data,
    shell:
        "python {resources.scripts:q}/train_base.py"
        " --spec {params.spec:q}"
        " --parent_model {input.parent:q}"
        " --continues {resources.continues:q}"
        " --data_path {params.data:q}"
        " --expect {resources.expect:q}"
        " --store {resources.store:q}"
        " --run {resources.run:q}"
        " --{resources.retrain}"
        " --{resources.start}"
        " --asked_by {resources.study:q}"
        " --output {output.model:q}"
        " > {log:q} 2>&1"
