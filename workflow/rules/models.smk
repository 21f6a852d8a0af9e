"""Checkpoints and problem sets, from a hub at a pinned revision or from a local path."""


rule fetch_weights:
    """One file of a checkpoint's weights."""
    output:
        weights="results/{experiment}/models/{model}/{file}.safetensors",
    log:
        "results/{experiment}/logs/models/{model}-{file}.log",
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        program=shipped("scripts/fetch_weights.py"),
        code=code_digest("scripts/fetch_weights.py"),
        content=lambda w: experiment.source_content("models", w.model, f"{w.file}.safetensors"),
        source=lambda w: experiment.source_flags("models", w.model),
    shell:
        "python {params.program:q} {params.source} --output {output.weights:q} &> {log:q}"


rule fetch_model:
    """A checkpoint's configuration and tokenizer, and a manifest of all of it."""
    input:
        weights=ancient(lambda w: experiment.weights(w.model)),
    output:
        config="results/{experiment}/models/{model}/config.json",
        manifest="results/{experiment}/models/{model}/manifest.json",
    log:
        "results/{experiment}/logs/models/{model}.log",
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        program=shipped("scripts/fetch_model.py"),
        code=code_digest("scripts/fetch_model.py"),
        content=lambda w: experiment.source_content("models", w.model),
        source=lambda w: experiment.source_flags("models", w.model),
    shell:
        "python {params.program:q} {params.source}"
        " --output $(dirname {output.manifest}) &> {log}"


rule fetch_benchmark:
    """A problem set as one uniform table: problem_id, problem, answer."""
    output:
        problems="results/{experiment}/benchmarks/{benchmark}.parquet",
    log:
        "results/{experiment}/logs/benchmarks/{benchmark}.log",
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        program=shipped("scripts/fetch_benchmark.py"),
        code=code_digest("scripts/fetch_benchmark.py"),
        content=lambda w: experiment.source_content("benchmarks", w.benchmark),
        source=lambda w: experiment.source_flags("benchmarks", w.benchmark),
    shell:
        "python {params.program:q} {params.source} --output {output.problems} &> {log}"
