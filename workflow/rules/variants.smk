"""Models made from the base and the top directions of the delta."""


rule build_adapter:
    """The top `rank` directions of a delta as a PEFT adapter."""
    input:
        delta="results/{experiment}/delta/{delta}/manifest.json",
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
    output:
        adapter="results/{experiment}/adapters/{delta}/r{rank}/adapter_model.safetensors",
        config="results/{experiment}/adapters/{delta}/r{rank}/adapter_config.json",
        ranks="results/{experiment}/adapters/{delta}/r{rank}/adapter.json",
    log:
        "results/{experiment}/logs/adapters/{delta}-r{rank}.log",
    benchmark:
        "results/{experiment}/timings/adapters/{delta}-r{rank}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        code=code_digest("scripts/build_adapter.py"),
    shell:
        "python scripts/build_adapter.py --delta $(dirname {input.delta})"
        " --base $(dirname {input.base}) --derivative $(dirname {input.derivative})"
        " --rank {wildcards.rank} --threads {threads} --output $(dirname {output.adapter}) &> {log}"


rule build_variant:
    """A complete checkpoint: base, adapter and biases, other tensors copied or kept."""
    input:
        adapter=lambda w: experiment.adapter(w.variant),
        base=experiment.manifest(experiment.base),
        derivative=experiment.manifest(experiment.derivative),
        tokenizer=experiment.manifest(experiment.subject["tokenizer"]),
    output:
        manifest="results/{experiment}/variants/{variant}/manifest.json",
        fidelity="results/{experiment}/variants/{variant}/fidelity.json",
    log:
        "results/{experiment}/logs/variants/{variant}.log",
    benchmark:
        "results/{experiment}/timings/variants/{variant}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        code=code_digest("scripts/build_variant.py"),
        other=lambda w: experiment.variants[w.variant].other,
        dtype=experiment.subject["serve_dtype"],
        leave_out=experiment.leave_out_flags(experiment.subject["delta"]),
    shell:
        "python scripts/build_variant.py --base $(dirname {input.base})"
        " --derivative $(dirname {input.derivative}) --adapter $(dirname {input.adapter})"
        " --other {params.other} --dtype {params.dtype} --tokenizer $(dirname {input.tokenizer})"
        " {params.leave_out} --output $(dirname {output.manifest}) &> {log}"
