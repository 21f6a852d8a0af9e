"""What it all says: one page, its figures and its tables."""


rule describe:
    """The resolved experiment: all that its results depend on."""
    output:
        # Named after what is asked: another question is another file, whatever Snakemake remembers.
        experiment=layout.asked(experiment.question),
    log:
        layout.log("describe"),
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 500 * attempt,
        runtime=lambda w, attempt: 5 * attempt,
    params:
        program=shipped("scripts/describe.py"),
        code=code_digest("scripts/describe.py"),
        experiment=lambda w: experiment.description(),
    shell:
        "python {params.program:q} --output {output.experiment} <<< {params.experiment:q} &> {log}"


rule report:
    """One self-contained page, its figures and its tables, from everything made before."""
    input:
        experiment.evidence(),
        comparisons(experiment),
        divergence.results(experiment),
        asked=layout.asked(experiment.question),
    output:
        page=report(
            layout.report / "report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"shows": "everything on one page"},
        ),
        figures=[
            report(
                layout.report / f"figures/{kind.name(subject)}.svg",
                caption=str(kind.caption_file),
                category=kind.category,
                labels=kind.labels(subject),
            )
            for kind, subject in pictures(
                experiment.benchmarks, experiment.deltas, divergence.asked_for(experiment)
            )
        ],
        pictures=[
            layout.report / f"figures/{figure}.png"
            for figure in figures(
                experiment.benchmarks, experiment.deltas, divergence.asked_for(experiment)
            )
        ],
        tables=[
            report(
                layout.report / f"tables/{table}.csv",
                caption=f"../report/{table}.rst",
                category="Tables",
                labels={"shows": table, "of": "everything"},
            )
            for table in tables(divergence.asked_for(experiment))
        ],
    log:
        layout.log("report"),
    benchmark:
        layout.timing("report")
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        program=shipped("scripts/report.py"),
        code=code_digest("scripts/report.py"),
        template=source_digest(
            ROOT / "workflow/report/template.html.j2", *(kind.caption_file for kind in PICTURES)
        ),
        published=experiment.published_content(),
        results=subpath(output.page, ancestor=2),
        folder=subpath(output.page, parent=True),
    shell:
        "python {params.program:q} --experiment {input.asked}"
        " --results {params.results} --output {params.folder} &> {log}"
