"""Checkpoints, adapters and problem sets, from a hub at a pinned revision or from a local path."""


rule fetch_weights:
    """One file of a checkpoint's weights."""
    output:
        weights=layout.model("{model}").weights("{file}.safetensors"),
    log:
        layout.log("models/{model}-{file}"),
    benchmark:
        layout.timing("models/{model}-{file}")
    wildcard_constraints:
        model="|".join(experiment.fetched) or "(?!)",
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
    wildcard_constraints:
        model="|".join(experiment.fetched) or "(?!)",
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


rule fetch_adapter:
    """A PEFT adapter's configuration and factors."""
    output:
        weights=layout.fetched_adapter("{model}").weights,
        config=layout.fetched_adapter("{model}").config,
        record=layout.fetched_adapter("{model}").record,
    log:
        layout.log("peft/{model}"),
    benchmark:
        layout.timing("peft/{model}")
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 1000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/fetch_adapter.py"),
        code=code_digest("scripts/fetch_adapter.py"),
        content=lambda w: experiment.source_content("models", w.model),
        source_flags=lambda w: experiment.source_flags("models", w.model),
        folder=subpath(output.record, parent=True),
    shell:
        "python {params.program:q} {params.source_flags} --output {params.folder} &> {log}"


rule merge_adapter:
    """A model that is an adapter on another one: merged in float32, a complete checkpoint."""
    input:
        base=lambda w: experiment.manifest(experiment.models[w.model]["on"]),
        adapter=layout.fetched_adapter("{model}").record,
        weights=ancient(lambda w: experiment.files(experiment.models[w.model]["on"])),
        tokenizer=ancient(lambda w: layout.model(experiment.models[w.model]["on"]).tokenizer),
        factors=ancient(layout.fetched_adapter("{model}").files),
    output:
        weights=layout.model("{model}").weights("model.safetensors"),
        config=layout.model("{model}").config,
        tokenizer=directory(layout.model("{model}").tokenizer),
        manifest=layout.model("{model}").manifest,
        adapter=layout.model("{model}").adapter,
    log:
        layout.log("models/{model}"),
    benchmark:
        layout.timing("models/{model}")
    wildcard_constraints:
        model="|".join(experiment.adapted) or "(?!)",
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/merge_adapter.py"),
        code=code_digest("scripts/merge_adapter.py"),
        base=subpath(input.base, parent=True),
        adapter=subpath(input.adapter, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python {params.program:q} --base {params.base} --adapter {params.adapter}"
        " --threads {threads} --output {params.folder} &> {log}"


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
