"""Models made from the base and the top directions of the delta."""


rule build_adapter:
    """A delta cut to a rank as a PEFT adapter: r16 its top directions, or a control."""
    input:
        delta="results/{experiment}/delta/{delta}/manifest.json",
        basis=ancient("results/{experiment}/delta/{delta}/basis"),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.weights(*experiment.pair(w.delta))),
    output:
        adapter="results/{experiment}/adapters/{delta}/{adapter}/adapter_model.safetensors",
        config="results/{experiment}/adapters/{delta}/{adapter}/adapter_config.json",
        ranks="results/{experiment}/adapters/{delta}/{adapter}/adapter.json",
    log:
        "results/{experiment}/logs/adapters/{delta}-{adapter}.log",
    benchmark:
        "results/{experiment}/timings/adapters/{delta}-{adapter}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=experiment.factoring["mem_mb"],
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/build_adapter.py"),
        code=code_digest("scripts/build_adapter.py"),
        flags=lambda w: experiment.adapter_flags(w.adapter),
    shell:
        "python {params.program:q} --delta $(dirname {input.delta})"
        " --base $(dirname {input.base}) --derivative $(dirname {input.derivative})"
        " {params.flags} --threads {threads} --output $(dirname {output.adapter}) &> {log}"


rule build_variant:
    """A complete checkpoint: base, adapter and biases, other tensors copied or kept."""
    input:
        adapter=lambda w: experiment.adapter(w.variant),
        base=experiment.manifest(experiment.base),
        derivative=experiment.manifest(experiment.derivative),
        tokenizer=experiment.manifest(experiment.subject["tokenizer"]),
        weights=ancient(experiment.weights(experiment.base, experiment.derivative)),
        factors=ancient(lambda w: adapter_weights(experiment.adapter(w.variant))),
    output:
        weights=(str if experiment.config["keep_variants"] else temp)(
            "results/{experiment}/variants/{variant}/model.safetensors"
        ),
        config="results/{experiment}/variants/{variant}/config.json",
        manifest="results/{experiment}/variants/{variant}/manifest.json",
        fidelity="results/{experiment}/variants/{variant}/fidelity.json",
    log:
        "results/{experiment}/logs/variants/{variant}.log",
    benchmark:
        "results/{experiment}/timings/variants/{variant}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=experiment.factoring["mem_mb"],
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/build_variant.py"),
        code=code_digest("scripts/build_variant.py"),
        adapter=lambda w, input: folder_flag("adapter", input.adapter),
        flags=lambda w: experiment.variant_flags(w.variant),
    shell:
        "python {params.program:q} --base $(dirname {input.base})"
        " --derivative $(dirname {input.derivative}) {params.adapter} {params.flags}"
        " --tokenizer $(dirname {input.tokenizer}) --threads {threads}"
        " --output $(dirname {output.manifest}) &> {log}"
