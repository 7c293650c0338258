# In:   experiments, classical baselines
# Out:  results/<study>/: summary.csv, table.txt, figure.svg, baselines/; report.html, figures/, tables/, and for papers
#       answer.txt, summary.parquet, comparisons.csv, gains.csv, tables.tex, values.tex, methods.txt


rule measure_baseline:
    """Measure one classical model on one target, on the splits that the networks use."""
    input:
        data=lambda wildcards: prepared_for(PLAN.baselines[wildcards.name]),
    output:
        rows=paths.BASELINE,
    log:
        paths.BASELINE_LOG,
    conda:
        "../envs/rootstock.yaml"
    threads: 1
    resources:
        scripts=SCRIPTS,
        gpu=0,
        start=RUN.start,
        mem_mb=lambda wildcards, attempt: more_each_time(PLAN.baselines[wildcards.name].mem_mb, attempt),
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.baselines[wildcards.name].json,
        data=lambda wildcards: PLAN.baselines[wildcards.name].data,
    shell:
        "python {resources.scripts:q}/measure_baseline.py"
        " --spec {params.spec:q}"
        " --data_path {params.data:q}"
        " --output {output.rows:q}"
        " --{resources.start}"
        " > {log:q} 2>&1"


rule summarise:
    """Write one row per experiment, and a table of gains per mode and fraction; without experiments, of base models."""
    input:
        trained=EXPERIMENTS or [paths.BASE_METADATA.format(hash=name) for name in PLAN.lone_bases],
        baselines=[paths.BASELINE.format(study=STUDY, name=name) for name in PLAN.baselines if EXPERIMENTS],
    output:
        summary=report(paths.SUMMARY.format(study=STUDY), category="Results"),
        table=report(paths.TABLE.format(study=STUDY), category="Results"),
        figure=report(paths.FIGURE.format(study=STUDY), category="Results"),
    log:
        paths.SUMMARY_LOG.format(study=STUDY),
    localrule: True
    conda:
        "../envs/rootstock.yaml"
    resources:
        scripts=SCRIPTS,
    params:
        study=PLAN.study_file,
        rows=short_digest([*(EXPERIMENTS or PLAN.lone_bases), *PLAN.baselines]),  # data may change, the study not
    shell:
        "python {resources.scripts:q}/summarise.py"
        " --study {params.study:q}"
        " --output {output.summary:q}"
        " > {log:q} 2>&1"


rule report:
    """The page that answers the study, its figures as SVG and csv, its tables as csv, and files for papers."""
    input:
        summary=rules.summarise.output.summary,
    output:
        page=report(paths.PAGE.format(study=STUDY), category="Page"),
        answer=paths.ANSWER.format(study=STUDY),
        figures=report(
            directory(paths.PAGE_FIGURES.format(study=STUDY)),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda wildcards: told_of_figure(wildcards.figure),
        ),
        tables=directory(paths.PAGE_TABLES.format(study=STUDY)),
        papers=[path.format(study=STUDY) for path in paths.PAPERS],
    log:
        paths.PAGE_LOG.format(study=STUDY),
    localrule: True
    conda:
        "../envs/rootstock.yaml"
    resources:
        scripts=SCRIPTS,
    params:
        study=PLAN.study_file,
        rows=rules.summarise.params.rows,
    shell:
        "python {resources.scripts:q}/report.py"
        " --study {params.study:q}"
        " --output {output.page:q}"
        " > {log:q} 2>&1"
