"""What it all says: one page, its figures and its tables."""


rule report:
    """One self-contained page, its figures and its tables, from everything made before."""
    input:
        experiment.evidence(),
        comparisons(experiment),
    output:
        # Named after what is asked: another question is another file, whatever Snakemake remembers.
        asked=f"results/{{experiment}}/asked-{experiment.question}.json",
        page=report(
            "results/{experiment}/report/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"shows": "everything on one page"},
        ),
        accuracy=[
            report(
                f"results/{{experiment}}/report/figures/accuracy-by-rank-{benchmark}.svg",
                caption="../report/accuracy-by-rank.rst",
                category="Accuracy",
                labels={"shows": "accuracy by rank", "of": benchmark},
            )
            for benchmark in experiment.benchmarks
        ],
        spectra=[
            report(
                f"results/{{experiment}}/report/figures/{figure}-{delta}.svg",
                caption=f"../report/{figure}.rst",
                category="Deltas",
                labels={"shows": figure.replace("-", " by "), "of": delta},
            )
            for delta in experiment.deltas
            for figure in ("spectrum", "spectrum-modules", "layers")
        ],
        energy=report(
            "results/{experiment}/report/figures/energy.svg",
            caption="../report/energy.rst",
            category="Deltas",
            labels={"shows": "energy by rank", "of": "all deltas"},
        ),
        fidelity=report(
            "results/{experiment}/report/figures/fidelity.svg",
            caption="../report/fidelity.rst",
            category="Accuracy",
            labels={"shows": "fidelity of what was served", "of": "all variants"},
        ),
        tables=[
            report(
                f"results/{{experiment}}/report/tables/{table}.csv",
                caption=f"../report/{table}.rst",
                category="Tables",
                labels={"shows": table, "of": "everything"},
            )
            for table in ("results", "metrics", "comparisons", "deltas", "fidelity")
        ],
    log:
        "results/{experiment}/logs/report.log",
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        program=shipped("scripts/report.py"),
        code=code_digest("scripts/report.py"),
        template=source_digest(ROOT / "workflow/report/template.html.j2"),
        published=experiment.published_content(),
        experiment=lambda w, output: experiment.description(),
    shell:
        "printf '%s' {params.experiment:q} > {output.asked};"
        " python {params.program:q} --experiment {output.asked}"
        " --results $(dirname $(dirname {output.page}))"
        " --output $(dirname {output.page}) &> {log}"
