"""What follows from the grades: of one model its metrics, of several how they compare."""


rule metrics:
    """Accuracy, pass@k and Maj@k of one model, with intervals."""
    input:
        grades=layout.grades("{benchmark}", "{model}"),
    output:
        metrics=layout.metrics("{benchmark}", "{model}"),
    log:
        layout.log("metrics/{benchmark}/{model}"),
    conda:
        "../../envs/grading.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
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


rule compare:
    """Every variant against base and derivative on a benchmark or a pool: tests and verdicts."""
    input:
        grades=lambda w: compared_grades(experiment, w.compared),
    output:
        comparisons=layout.comparisons("{compared}"),
        record=layout.comparisons_record("{compared}"),
    log:
        layout.log("comparisons/{compared}"),
    conda:
        "../../envs/grading.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 2000 * attempt,
        runtime=lambda w, attempt: 10 * attempt,
    params:
        program=shipped("scripts/compare.py"),
        code=code_digest("scripts/compare.py"),
        benchmark_flags=lambda w, input: compared_flags(experiment, w.compared, input.grades),
        references=f"{experiment.base} {experiment.derivative}",
        k=" ".join(map(str, experiment.config["maj_k"])),
        margin=experiment.config["margin"],
        seed=experiment.config["seed"],
    shell:
        "python {params.program:q} {params.benchmark_flags} --name {wildcards.compared}"
        " --references {params.references} --k {params.k} --margin {params.margin}"
        " --seed {params.seed} --output {output.comparisons} --record {output.record} &> {log}"
