"""What each completion answered, whether that is right, and what follows for the model."""


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
        mem_mb=4000,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/grade.py"),
        code=code_digest("scripts/grade.py"),
        rule=lambda w: experiment.grading_flags(w.benchmark),
    shell:
        "python {params.program:q} --samples {input.samples} --problems {input.problems}"
        " {params.rule} --workers {threads} --output {output.grades} &> {log}"


rule metrics:
    """Accuracy, pass@k and Maj@k of one model, with intervals."""
    input:
        grades="results/{experiment}/grades/{benchmark}/{model}.parquet",
    output:
        metrics="results/{experiment}/metrics/{benchmark}/{model}.csv",
    log:
        "results/{experiment}/logs/metrics/{benchmark}/{model}.log",
    conda:
        "../../envs/grading.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=lambda w, attempt: 10 * attempt,
    params:
        program=shipped("scripts/metrics.py"),
        code=code_digest("scripts/metrics.py"),
        k=" ".join(map(str, experiment.config["maj_k"])),
        repeats=experiment.config["repeats"],
        seed=experiment.config["seed"],
    shell:
        "python {params.program:q} --grades {wildcards.model}={input.grades}"
        " --benchmark {wildcards.benchmark} --k {params.k} --repeats {params.repeats}"
        " --seed {params.seed} --output {output.metrics} &> {log}"
