"""What each completion answered, and whether that is right."""


rule grade:
    """The answer of every completion of a model, and whether it is right."""
    input:
        samples=lambda w: experiment.samples(w.benchmark, w.model),
        problems="results/{experiment}/benchmarks/{benchmark}.parquet",
    output:
        grades="results/{experiment}/grades/{benchmark}/{model}.parquet",
    log:
        "results/{experiment}/logs/grades/{benchmark}/{model}.log",
    benchmark:
        "results/{experiment}/timings/grades/{benchmark}/{model}.tsv"
    conda:
        "../../envs/grading.yaml"
    threads: lambda w: experiment.grading_workers(w.benchmark)
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/grade.py"),
        code=code_digest("scripts/grade.py"),
        how_to_read=lambda w: experiment.grading_flags(w.benchmark),
    shell:
        "python {params.program:q} --samples {input.samples} --problems {input.problems}"
        " {params.how_to_read} --workers {threads} --output {output.grades} &> {log}"
