"""Checkpoints and problem sets, from a hub at a pinned revision or from a local path."""


rule fetch_weights:
    """One file of a checkpoint's weights."""
    output:
        weights=layout.model("{model}").weights("{file}.safetensors"),
    log:
        layout.log("models/{model}-{file}"),
    benchmark:
        layout.timing("models/{model}-{file}")
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 1000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        program=shipped("scripts/fetch_weights.py"),
        code=code_digest("scripts/fetch_weights.py"),
        content=lambda w: experiment.source_content("models", w.model, f"{w.file}.safetensors"),
        source_flags=lambda w: experiment.source_flags("models", w.model),
    shell:
        "python {params.program:q} {params.source_flags} --output {output.weights:q} &> {log:q}"


rule fetch_model:
    """A checkpoint's configuration and tokenizer, and a manifest of all of it."""
    input:
        weights=ancient(lambda w: experiment.weights(w.model)),
    output:
        config=layout.model("{model}").config,
        index=layout.model("{model}").index,
        tokenizer=directory(layout.model("{model}").tokenizer),
        manifest=layout.model("{model}").manifest,
    log:
        layout.log("models/{model}"),
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 1000 * attempt,
        runtime=lambda w, attempt: 120 * attempt,
    params:
        program=shipped("scripts/fetch_model.py"),
        code=code_digest("scripts/fetch_model.py"),
        content=lambda w: experiment.source_content("models", w.model),
        source_flags=lambda w: experiment.source_flags("models", w.model),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python {params.program:q} {params.source_flags} --output {params.folder} &> {log}"


rule fetch_benchmark:
    """A problem set as one uniform table: problem_id, problem, answer."""
    output:
        problems=layout.problems("{benchmark}"),
    log:
        layout.log("benchmarks/{benchmark}"),
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 1000 * attempt,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        program=shipped("scripts/fetch_benchmark.py"),
        code=code_digest("scripts/fetch_benchmark.py"),
        content=lambda w: experiment.source_content("benchmarks", w.benchmark),
        source_flags=lambda w: experiment.source_flags("benchmarks", w.benchmark),
    shell:
        "python {params.program:q} {params.source_flags} --output {output.problems} &> {log}"
